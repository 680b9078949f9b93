//! Faults on demand: how a world server misbehaves when a test asks it to. Parsing and counting only; who has the fault
//! (the SDK's own lies, or the game) reads it from here.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tidegate_types::BuildVersion;

/// One way to misbehave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Waits this long before it registers.
    SlowStart(Duration),
    /// Registers, loads, and never says that it serves.
    NeverReady,
    /// Reports another asset digest than the one it loaded.
    WrongDigest,
    /// Reports another build than its own.
    WrongBuild(BuildVersion),
    /// Refuses `Prepare`s.
    RefusePrepare {
        /// How many; `None`: all of them.
        times: Option<u32>,
        /// After so many that went well.
        after: u32,
    },
    /// Dies in the middle of this step, after so many that went well.
    DieIn(Step, u32),
    /// Stops ticking and answering this long after its first tick.
    Hang(Duration),
    /// Adds this to the player count it reports.
    LiePopulation(i64),
}

/// A step of a hand-over in which a server can die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// At the source, before the state is answered.
    Freeze,
    /// At the target, before the commit.
    Prepare,
    /// At the target, after the commit.
    Activate,
}

/// A text that names no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no fault: {why}")]
pub struct UnknownFault {
    given: String,
    why: &'static str,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Freeze => "freeze",
            Self::Prepare => "prepare",
            Self::Activate => "activate",
        })
    }
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let bad = |why| UnknownFault { given: text.to_owned(), why };
        let (name, value) = match text.trim().split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text.trim(), None),
        };
        match (name, value) {
            ("slow-start", Some(v)) => {
                duration(v).map(Self::SlowStart).ok_or_else(|| bad("want a time such as 2s or 500ms"))
            }
            ("slow-start", None) => Err(bad("say how long, as in slow-start=2s")),
            ("never-ready", None) => Ok(Self::NeverReady),
            ("wrong-digest", None) => Ok(Self::WrongDigest),
            ("wrong-build", Some(v)) if semver::Version::parse(v).is_ok() => {
                BuildVersion::new(v).map(Self::WrongBuild).map_err(|_| bad("want a semver"))
            }
            ("wrong-build", _) => Err(bad("say which, as in wrong-build=1.8.0")),
            ("refuse-prepare", None) => Ok(Self::RefusePrepare { times: None, after: 0 }),
            ("refuse-prepare", Some(v)) => {
                refuse_prepare(v).ok_or_else(|| bad("want a number of times, and optionally :N after which"))
            }
            ("die-in", Some(v)) => die_in(v).ok_or_else(|| bad("want freeze, prepare or activate, and optionally :N")),
            ("die-in", None) => Err(bad("say where, as in die-in=freeze")),
            ("hang", None) => Ok(Self::Hang(Duration::ZERO)),
            ("hang", Some(v)) => duration(v).map(Self::Hang).ok_or_else(|| bad("want a time such as 5s")),
            ("lie-population", Some(v)) => v.parse().map(Self::LiePopulation).map_err(|_| bad("want a whole number")),
            ("lie-population", None) => Err(bad("say by how much, as in lie-population=7")),
            _ => Err(bad(
                "known are slow-start, never-ready, wrong-digest, wrong-build, refuse-prepare, die-in, hang, lie-population",
            )),
        }
    }
}

fn refuse_prepare(text: &str) -> Option<Fault> {
    let (times, after) = match text.split_once(':') {
        Some((times, after)) => (times, after.parse().ok()?),
        None => (text, 0),
    };
    Some(Fault::RefusePrepare { times: Some(times.parse().ok()?), after })
}

fn die_in(text: &str) -> Option<Fault> {
    let (step, after) = match text.split_once(':') {
        Some((step, after)) => (step, after.parse().ok()?),
        None => (text, 0),
    };
    let step = match step {
        "freeze" => Step::Freeze,
        "prepare" => Step::Prepare,
        "activate" => Step::Activate,
        _ => return None,
    };
    Some(Fault::DieIn(step, after))
}

/// `2s`, `500ms`, or a bare number of seconds; at most an hour, which is for ever to a test.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit_ms) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or(text), 1_000),
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
    (ms <= 3_600_000).then(|| Duration::from_millis(ms))
}

/// The faults that the game itself has, with their counts.
#[derive(Debug, Default)]
pub struct GameFaults {
    refuse_prepare: Option<Option<u32>>,
    /// So many `Prepare`s go well first.
    accept_prepare: u32,
    die_in: Vec<(Step, u32)>,
    hang_after: Option<Duration>,
}

impl GameFaults {
    /// Takes those of `faults` that are the game's; the others are the SDK's.
    #[must_use]
    pub fn of(faults: &[Fault]) -> Self {
        let mut ours = Self::default();
        for fault in faults {
            match fault {
                Fault::RefusePrepare { times, after } => {
                    ours.refuse_prepare = Some(*times);
                    ours.accept_prepare = *after;
                }
                Fault::DieIn(step, after) => ours.die_in.push((*step, *after)),
                Fault::Hang(after) => ours.hang_after = Some(*after),
                Fault::SlowStart(_)
                | Fault::NeverReady
                | Fault::WrongDigest
                | Fault::WrongBuild(_)
                | Fault::LiePopulation(_) => {}
            }
        }
        ours
    }

    /// Whether to refuse the `Prepare` at hand; counts it.
    pub fn refuses_prepare(&mut self) -> bool {
        if self.accept_prepare > 0 {
            self.accept_prepare -= 1;
            return false;
        }
        match &mut self.refuse_prepare {
            None | Some(Some(0)) => false,
            Some(None) => true,
            Some(Some(left)) => {
                *left -= 1;
                true
            }
        }
    }

    /// Whether to die in the step at hand; counts it.
    pub fn dies_in(&mut self, step: Step) -> bool {
        let mut dies = false;
        for (at, left) in &mut self.die_in {
            if *at == step {
                dies |= *left == 0;
                *left = left.saturating_sub(1);
            }
        }
        dies
    }

    /// Whether to stop for ever, `running` after the first tick.
    #[must_use]
    pub fn hangs(&self, running: Duration) -> bool {
        self.hang_after.is_some_and(|after| running >= after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_spelling() {
        let check = |text: &str, fault: Fault| assert_eq!(text.parse(), Ok(fault));
        check("slow-start=2s", Fault::SlowStart(Duration::from_secs(2)));
        check("slow-start=250ms", Fault::SlowStart(Duration::from_millis(250)));
        check("never-ready", Fault::NeverReady);
        check("wrong-digest", Fault::WrongDigest);
        check("wrong-build=1.8.0", Fault::WrongBuild(BuildVersion::new("1.8.0").unwrap()));
        check("refuse-prepare", Fault::RefusePrepare { times: None, after: 0 });
        check("refuse-prepare=3", Fault::RefusePrepare { times: Some(3), after: 0 });
        check("refuse-prepare=3:9", Fault::RefusePrepare { times: Some(3), after: 9 });
        check("die-in=freeze", Fault::DieIn(Step::Freeze, 0));
        check("die-in=activate:2", Fault::DieIn(Step::Activate, 2));
        check("hang=5s", Fault::Hang(Duration::from_secs(5)));
        check("lie-population=-3", Fault::LiePopulation(-3));
    }

    #[test]
    fn a_bad_fault_says_what_would_be_right() {
        for (text, want) in [
            ("explode", "known are"),
            ("die-in=sleep", "want freeze, prepare or activate"),
            ("slow-start", "slow-start=2s"),
            ("wrong-build=old", "wrong-build=1.8.0"),
            ("hang=99999h", "want a time"),
        ] {
            let message = text.parse::<Fault>().unwrap_err().to_string();
            assert!(message.contains(want), "{message}");
        }
    }

    #[test]
    fn counted_faults_end_or_begin_when_they_should() {
        let mut faults =
            GameFaults::of(&[Fault::RefusePrepare { times: Some(2), after: 1 }, Fault::DieIn(Step::Prepare, 1)]);
        let refused: Vec<bool> = (0..4).map(|_| faults.refuses_prepare()).collect();
        assert_eq!(refused, [false, true, true, false]);
        assert_eq!(
            [faults.dies_in(Step::Freeze), faults.dies_in(Step::Prepare), faults.dies_in(Step::Prepare)],
            [false, false, true]
        );
        assert!(!faults.hangs(Duration::from_secs(9)));
    }
}
