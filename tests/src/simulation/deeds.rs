//! What an operator does, and what goes wrong by itself.

use std::time::Duration;

use fleet_core::drain::{AtDeadline, Policy};
use fleet_core::environment::Fleet;
use fleet_core::model::{Crash, build, create, green_start, policy};
use fleet_core::rollback::Choice;
use fleet_core::{BuildInfo, Command, Label, PhaseKind};
use tidegate_types::{EnvironmentId, RolloutId};

use super::joint::Joint;

/// Rollouts in one history: the second often comes while the first still drains.
const MOST_ROLLOUTS: usize = 3;

/// Environments in one history, beside those of rollouts.
const MOST_ENVIRONMENTS: usize = 6;

/// Both formats of state are read by every build, so that a rollback is possible.
fn release(n: u64) -> BuildInfo {
    build(&format!("2.{n}.0"), &[2, 1])
}

/// Two fleets: one has the entry, the other a zone of its own; both have the common zone and dungeons.
fn fleets(capacity: u32) -> Vec<Fleet> {
    let fleet = |name: &str, replicas, zones: &[&str]| Fleet {
        name: name.parse().expect("an id"),
        replicas,
        zones: zones.iter().map(|zone| zone.parse().expect("an id")).collect(),
        instance_kinds: vec!["dungeon".parse().expect("an id")],
        capacity,
        environment: std::collections::BTreeMap::new(),
    };
    vec![fleet("hub", 2, &["entry", "common", "zone-0"]), fleet("wild", 1, &["common", "zone-1"])]
}

impl Joint {
    /// A realm with one environment that accepts, and the gateway at its table.
    pub(super) fn open_the_realm(&mut self) {
        let blue: EnvironmentId = "blue-1".parse().expect("an id");
        let Command::CreateEnvironment { id, build, label, .. } =
            create("blue-1", build("1.9.0", &[2, 1]), Some(Label::Blue))
        else {
            return;
        };
        let fleets = fleets(self.servers_capacity);
        self.must(Command::CreateEnvironment { id, build, fleets, label });
        self.must(Command::Stage { environment: blue.clone(), if_generation: None });
        self.until("staged", |joint| joint.is("blue-1", PhaseKind::Staged));
        self.must(Command::Verify { environment: blue.clone(), if_generation: None });
        self.until("ready", |joint| joint.is("blue-1", PhaseKind::Ready));
        let environment = blue.clone();
        self.until("serving", move |joint| {
            let servers = &joint.run.realm.rows.environments[&environment].servers;
            servers.len() == 3 && servers.values().all(|server| server.ready)
        });
        self.must(Command::Flip { to: blue, if_generation: None, confirm: None, reason: String::new() });
        self.until("confirmed", |joint| joint.seen.flips_confirmed == 1);
    }

    fn must(&mut self, command: Command) {
        let what = format!("{command:?}");
        if !self.order(command) {
            self.rules.break_rule(format!("refused: {what}"));
        }
    }

    pub(super) fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if holds(self) {
                return;
            }
            self.edge.step(gateway_core::model::Step::DeliverMany(63));
            self.pass(200);
        }
        self.rules.break_rule(format!("never {what}"));
    }

    /// Gives the manager a command. False: it refused.
    pub(super) fn order(&mut self, command: Command) -> bool {
        self.count_guests();
        let taken = self.run.command(command.clone());
        self.edge.note(|| format!("* the operator says {command:?}: {:?}", taken.as_ref().map_err(|r| r.reason)));
        if taken.is_ok() {
            let now = self.now();
            self.rules.said(now, &command);
        }
        self.carry_out();
        taken.is_ok()
    }

    /// An operator does something. It may well be refused; that a refusal changes nothing is checked.
    pub(super) fn deed(&mut self) {
        let n = self.dice.next();
        if let Some(command) = self.choose(n % 24, n / 24) {
            self.order(command);
        }
        if self.draining().len() > 1 {
            self.seen.two_drains += 1;
        }
    }

    fn any_environment(&self, n: u64) -> Option<EnvironmentId> {
        pick(self.run.realm.rows.environments.keys(), n)
    }

    fn any_rollout(&self, n: u64) -> Option<RolloutId> {
        pick(self.run.realm.rows.rollouts.keys(), n)
    }

    fn choose(&self, deed: u64, n: u64) -> Option<Command> {
        let (if_generation, reason) = (None, String::new());
        let rows = &self.run.realm.rows;
        Some(match deed {
            0..8 => {
                let count = rows.rollouts.len();
                if count >= MOST_ROLLOUTS {
                    return None;
                }
                let number = u32::try_from(count).unwrap_or(0) + 1;
                let mut start = green_start(number, release(n % 5));
                start.spec.drain = Policy { at_deadline: AtDeadline::Move, ..drain(n) };
                start.spec.stable = Duration::from_secs(1);
                Command::StartRollout(Box::new(start))
            }
            8 | 9 => Command::Flip { to: self.any_environment(n)?, if_generation, confirm: None, reason },
            10 | 11 => Command::Rollback { to: None, choice: choice(n), if_generation, reason },
            12 => Command::Freeze { frozen: n.is_multiple_of(3), reason },
            13 | 14 => Command::StartDrain { environment: self.any_environment(n)?, policy: drain(n) },
            15 => Command::ForceDrain {
                environment: self.any_environment(n)?,
                deadline: Duration::from_millis(n % 3_000),
                ignore_extensions: true,
            },
            16 => Command::PauseRollout { rollout: self.any_rollout(n)?, reason },
            17 | 18 => Command::ResumeRollout { rollout: self.any_rollout(n)? },
            19 => Command::AbortRollout { rollout: self.any_rollout(n)?, reason, choice: choice(n / 8) },
            20 => Command::Retire { environment: self.any_environment(n)?, if_generation },
            21 => Command::Snapshot {
                environment: self.any_environment(n)?,
                snapshot: format!("snap-{}", self.run.outcomes).parse().ok()?,
                if_generation,
            },
            22 if rows.environments.len() < MOST_ENVIRONMENTS => {
                create_like_blue(&format!("e{}", rows.environments.len()), release(n % 5))
            }
            22 => Command::Relabel { environment: self.any_environment(n)?, if_generation },
            _ if n.is_multiple_of(2) => Command::Stage { environment: self.any_environment(n)?, if_generation },
            _ => Command::Verify { environment: self.any_environment(n)?, if_generation },
        })
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self, n: u16) {
        match n % 8 {
            0 => {
                self.run.crash();
                self.carry_out();
            }
            1 | 2 => {
                let crash = match n / 8 % 3 {
                    0 => Crash::BeforeWrite,
                    1 => Crash::BeforeEffects,
                    _ => Crash::AfterEffects(1),
                };
                self.run.crash_at = Some((self.run.outcomes + 1 + u64::from(n / 32 % 8), crash));
            }
            3 | 4 => self.cut_stream(),
            5 | 6 => {
                let servers = self.edge.servers();
                if let Some((server, _)) = servers.get(usize::from(n / 8) % servers.len().max(1)) {
                    self.edge.kill_process(server);
                    self.seen.server_deaths += 1;
                }
            }
            _ => {
                self.run.world.faults.snapshot_failures = u32::from(n / 8 % 2);
                self.run.world.faults.clone_failures = u32::from(n / 16 % 2);
            }
        }
    }
}

fn create_like_blue(name: &str, build: BuildInfo) -> Command {
    let id = name.parse().expect("an id");
    Command::CreateEnvironment { id, build, fleets: Vec::new(), label: None }
}

fn pick<'a, T: Clone + 'a>(all: impl ExactSizeIterator<Item = &'a T>, n: u64) -> Option<T> {
    let mut all = all;
    let count = u64::try_from(all.len()).ok().filter(|count| *count > 0)?;
    all.nth(usize::try_from(n % count).ok()?).cloned()
}

/// A drain that ends its last stays within a few seconds, as a rule by moving them.
fn drain(n: u64) -> Policy {
    let mut drain = policy(Duration::from_millis(1_000 + n % 7_000));
    if n.is_multiple_of(8) {
        drain.at_deadline = AtDeadline::Kick;
    }
    drain
}

fn choice(n: u64) -> Choice {
    match n % 4 {
        0 => Choice::Finish,
        1 => Choice::NextBoundary,
        2 => Choice::Force { deadline: Duration::from_secs(2) },
        _ => Choice::Freeze,
    }
}
