//! What to do about the difference between the servers that shall run and those that do.
//!
//! ```text
//!   absent --start--> running --exit--> absent (back-off, then start again)
//!                        |--surplus--> retiring --settled and empty--> stop --> terminate --> kill --> absent, forgotten
//!                        |--environment stopped---------------------->/
//!                        \--hung, or never registered--> kill --> absent (back-off)
//! ```
//!
//! No I/O, clock or randomness: the shell says what it observes and what time it is, and does what the plan says. The
//! same observation gives the same plan, so a crash between plan and deed is only a plan made again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tidegate_types::{EnvironmentId, FleetName, Mono};

use super::spec::Slot;

/// How many players are held. Unknown means occupied (invariant 9 of ARCHITECTURE.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupancy {
    /// Certainly none: no live, parked, frozen or prepared player.
    Empty,
    /// This many.
    Occupied(u32),
    /// Not known: treat as occupied.
    Unknown,
}

/// Timings of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// First pause before a server that died is started again; doubles with each death in a row.
    pub restart_min: Duration,
    /// Longest such pause.
    pub restart_max: Duration,
    /// From start to registration.
    pub start_timeout: Duration,
    /// How long a retiring server must have been closed to newcomers, and empty, before it is stopped: whoever was on the
    /// way to it has arrived and been counted by then.
    pub settle: Duration,
    /// What a server gets to save itself when its fleet shrinks.
    pub stop_within: Duration,
}

/// From the polite signal to the one that cannot be ignored.
const TERMINATE_GRACE: Duration = Duration::from_secs(2);
/// The window in which [`EXITS_FAILING`] exits make a server failing.
const FAILING_WINDOW: Duration = Duration::from_secs(60);
/// See [`FAILING_WINDOW`].
const EXITS_FAILING: usize = 5;
/// A process that lived this long starts its back-off anew when it dies.
const STEADY: Duration = Duration::from_secs(60);

/// What shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Replicas of each fleet of the environments that shall run.
    pub fleets: BTreeMap<(EnvironmentId, FleetName), u32>,
    /// Environments that shall have no servers, and what each server gets to save itself.
    pub stopped: BTreeMap<EnvironmentId, Duration>,
}

/// What is, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Its process.
    pub process: Process,
    /// Its deaths.
    pub exits: Exits,
}

/// The process in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Process {
    /// None.
    Absent,
    /// One that lives.
    Running(Running),
}

/// A process that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Since when it is watched (its start, or its adoption).
    pub since: Mono,
    /// It has registered, with this manager or an earlier one.
    pub registered: bool,
    /// Its stream to the manager is open.
    pub connected: bool,
    /// It has said nothing for so long that it counts as hung, and may be killed for it.
    pub hung: bool,
    /// Its players.
    pub occupancy: Occupancy,
    /// Since when it has been empty without a break, by reports; `None`: it is not.
    pub empty_since: Option<Mono>,
    /// Since when nobody new is brought to it.
    pub retiring: Option<Mono>,
    /// What has been done to end it.
    pub ending: Option<Ending>,
    /// It ends because it is not wanted, and not because it hangs.
    pub told_to_end: bool,
}

/// How far the end of a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Asked to save and exit, by this time.
    Asked {
        /// When patience ends.
        until: Mono,
    },
    /// Sent SIGTERM at this time.
    Terminated {
        /// When.
        at: Mono,
    },
    /// Sent SIGKILL.
    Killed,
}

/// The deaths of the server in one place, and when the next start may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exits {
    recent: VecDeque<Mono>,
    in_a_row: u32,
    not_before: Mono,
}

impl Exits {
    /// A process that had lived this long has died at `now` without having been told to.
    pub fn record(&mut self, now: Mono, lived: Duration, limits: &Limits) {
        if lived >= STEADY {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.recent.push_back(now);
        while self.recent.len() > EXITS_FAILING {
            self.recent.pop_front();
        }
        self.not_before = now + back_off(self.in_a_row, limits);
    }

    /// The process could not even be started.
    pub fn record_not_started(&mut self, now: Mono, limits: &Limits) {
        self.record(now, Duration::ZERO, limits);
        self.not_before = now + limits.restart_max;
    }

    /// It has died so often of late that starting it again will hardly help.
    #[must_use]
    pub fn failing(&self, now: Mono) -> bool {
        self.recent.len() >= EXITS_FAILING && self.recent.iter().all(|exit| now.since(*exit) < FAILING_WINDOW)
    }

    /// The earliest time of the next start.
    #[must_use]
    pub fn not_before(&self) -> Mono {
        self.not_before
    }
}

/// The pause after the `deaths`-th death in a row.
fn back_off(deaths: u32, limits: &Limits) -> Duration {
    let doublings = deaths.saturating_sub(1).min(20);
    limits.restart_min.saturating_mul(1 << doublings).min(limits.restart_max)
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a process in this place.
    Start(Slot),
    /// Bring nobody new to it: it goes when it is empty.
    Retire(Slot),
    /// It is needed after all.
    Keep(Slot),
    /// Ask it to save everything and exit.
    Ask {
        /// Where.
        slot: Slot,
        /// How long it gets.
        within: Duration,
    },
    /// Send SIGTERM.
    Terminate(Slot),
    /// Send SIGKILL.
    Kill {
        /// Where.
        slot: Slot,
        /// Why.
        why: KillReason,
    },
    /// Nothing runs there and nothing shall: drop its record.
    Forget(Slot),
}

/// Why a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillReason {
    /// It did not end when it was told to.
    DidNotEnd,
    /// It did not register in time.
    NeverRegistered,
    /// It stopped reporting: it hangs.
    Silent,
}

/// What to do now, and when to look again at the latest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub actions: Vec<Action>,
    /// When something falls due without anything else happening.
    pub wake: Option<Mono>,
}

impl Plan {
    fn wake_at(&mut self, time: Mono) {
        self.wake = Some(self.wake.map_or(time, |wake| wake.min(time)));
    }
}

/// Compares what shall be with what is. Environments that are neither wanted nor stopped are left alone.
#[must_use]
pub fn plan(wanted: &Wanted, observed: &BTreeMap<Slot, Observed>, now: Mono, limits: &Limits) -> Plan {
    let mut plan = Plan::default();
    let mut fleets: BTreeMap<(EnvironmentId, FleetName), Vec<(&Slot, &Observed)>> = BTreeMap::new();
    for (slot, what) in observed {
        fleets.entry((slot.environment.clone(), slot.fleet.clone())).or_default().push((slot, what));
    }
    let known: BTreeSet<&EnvironmentId> = wanted.fleets.keys().map(|(environment, _)| environment).collect();
    for key in wanted.fleets.keys() {
        fleets.entry(key.clone()).or_default();
    }
    for ((environment, fleet), members) in &fleets {
        if let Some(within) = wanted.stopped.get(environment) {
            stop_all(&mut plan, members, *within, now);
        } else if known.contains(environment) {
            // A fleet that the environment no longer has is one of no replicas.
            let replicas = wanted.fleets.get(&(environment.clone(), fleet.clone())).copied().unwrap_or(0);
            size(&mut plan, (environment, fleet), members, replicas as usize, now, limits);
        }
        for (slot, what) in members {
            // One that is being ended by this very plan is not also killed by it.
            let ends =
                |action: &Action| matches!(action, Action::Ask { slot: s, .. } | Action::Terminate(s) if s == *slot);
            if let Process::Running(running) = &what.process
                && !plan.actions.iter().any(ends)
            {
                watch(&mut plan, slot, running, now, limits);
            }
        }
    }
    plan
}

/// Ends every process of a stopped environment.
fn stop_all(plan: &mut Plan, members: &[(&Slot, &Observed)], within: Duration, now: Mono) {
    for (slot, what) in members {
        match &what.process {
            Process::Absent => plan.actions.push(Action::Forget((*slot).clone())),
            Process::Running(running) if running.ending.is_none() => end(plan, slot, running, within, now),
            Process::Running(_) => {}
        }
    }
}

/// Brings a fleet to its number of replicas.
fn size(
    plan: &mut Plan,
    (environment, fleet): (&EnvironmentId, &FleetName),
    members: &[(&Slot, &Observed)],
    replicas: usize,
    now: Mono,
    limits: &Limits,
) {
    let mut staying: Vec<(&Slot, &Running)> = Vec::new();
    let mut taken: BTreeSet<u32> = BTreeSet::new();
    // Killed because they hang: their places are theirs until they are gone, and are then started again after a pause.
    let mut coming_back = 0;
    for (slot, what) in members {
        if let Process::Running(running) = &what.process {
            taken.insert(slot.ordinal);
            if running.ending.is_none() {
                staying.push((slot, running));
            } else if !running.told_to_end {
                coming_back += 1;
            }
        }
    }
    staying.sort_by_key(|(slot, running)| leaving_order(slot, running));
    let surplus = staying.len().saturating_sub(replicas);
    for (i, (slot, running)) in staying.iter().enumerate() {
        if i >= surplus {
            if running.retiring.is_some() {
                plan.actions.push(Action::Keep((*slot).clone()));
            }
            continue;
        }
        let Some(retiring) = running.retiring else {
            plan.actions.push(Action::Retire((*slot).clone()));
            plan.wake_at(now + limits.settle);
            continue;
        };
        let Some(empty_since) = running.empty_since else { continue };
        let settled = retiring.max(empty_since) + limits.settle;
        if running.occupancy == Occupancy::Empty && now >= settled {
            end(plan, slot, running, limits.stop_within, now);
        } else {
            plan.wake_at(settled);
        }
    }

    // The same places wait for their back-off: another place would be a way around it.
    let missing = replicas.saturating_sub(staying.len() + coming_back);
    let places: BTreeSet<u32> = (1..).filter(|ordinal| !taken.contains(ordinal)).take(missing).collect();
    for ordinal in &places {
        let slot = Slot { environment: environment.clone(), fleet: fleet.clone(), ordinal: *ordinal };
        let not_before = members.iter().find(|(s, _)| **s == slot).map_or(Mono(0), |(_, what)| what.exits.not_before);
        if now >= not_before {
            plan.actions.push(Action::Start(slot));
        } else {
            plan.wake_at(not_before);
        }
    }
    for (slot, what) in members {
        if what.process == Process::Absent && !places.contains(&slot.ordinal) {
            plan.actions.push(Action::Forget((*slot).clone()));
        }
    }
}

/// Who goes first when a fleet shrinks: the empty ones, then those already retiring (so that the choice does not wander
/// with the players), then the least occupied, then the last in order.
fn leaving_order(slot: &Slot, running: &Running) -> (bool, bool, u32, std::cmp::Reverse<u32>) {
    let players = match running.occupancy {
        Occupancy::Empty => 0,
        Occupancy::Occupied(players) => players,
        Occupancy::Unknown => u32::MAX,
    };
    (running.occupancy != Occupancy::Empty, running.retiring.is_none(), players, std::cmp::Reverse(slot.ordinal))
}

/// The first step of ending a process: a question if it can hear one, a signal if not.
fn end(plan: &mut Plan, slot: &Slot, running: &Running, within: Duration, now: Mono) {
    if running.connected {
        plan.actions.push(Action::Ask { slot: slot.clone(), within });
        plan.wake_at(now + within);
    } else {
        plan.actions.push(Action::Terminate(slot.clone()));
        plan.wake_at(now + TERMINATE_GRACE);
    }
}

/// The next step for a process that is ending, and the end of one that hangs.
fn watch(plan: &mut Plan, slot: &Slot, running: &Running, now: Mono, limits: &Limits) {
    let mut kill = |why| plan.actions.push(Action::Kill { slot: slot.clone(), why });
    match running.ending {
        Some(Ending::Killed) => {}
        Some(Ending::Terminated { at }) => {
            if now >= at + TERMINATE_GRACE {
                kill(KillReason::DidNotEnd);
            } else {
                plan.wake_at(at + TERMINATE_GRACE);
            }
        }
        Some(Ending::Asked { until }) => {
            if now >= until {
                plan.actions.push(Action::Terminate(slot.clone()));
                plan.wake_at(now + TERMINATE_GRACE);
            } else {
                plan.wake_at(until);
            }
        }
        None if !running.registered => {
            let due = running.since + limits.start_timeout;
            if now >= due {
                kill(KillReason::NeverRegistered);
            } else {
                plan.wake_at(due);
            }
        }
        None if running.hung => kill(KillReason::Silent),
        None => {}
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
