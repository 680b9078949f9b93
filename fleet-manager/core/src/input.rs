//! What comes in: commands (an operator's word, which may be refused) and events (what effects answered and what is
//! observed, which are applied or, when late or doubled, ignored).

use std::time::Duration;

use tidegate_types::{EnvironmentId, FleetName, GatewayId, Generation, RealmId, RolloutId, SnapshotId};

use crate::drain::Policy;
use crate::environment::{Fleet, Label};
use crate::observe::{EnvironmentObservation, OccupancyReport};
use crate::rollback::Choice;
use crate::rollout::RolloutSpec;
use crate::snapshot::SnapshotFacts;
use crate::spec::BuildInfo;

/// Everything that can come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An operator's word.
    Command(Command),
    /// What happened.
    Event(Event),
}

/// An operator's word. Ids of what is made come from the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Creates an environment; nothing runs yet.
    CreateEnvironment {
        /// Its id.
        id: EnvironmentId,
        /// What it runs.
        build: BuildInfo,
        /// Its fleets; empty: as the blue (else the accepting) environment has.
        fleets: Vec<Fleet>,
        /// `Some(Blue)` only while the realm has no blue; `Some(Green)` takes the label from an idle green.
        label: Option<Label>,
    },
    /// Starts its servers and loads everything.
    Stage {
        /// Which.
        environment: EnvironmentId,
        /// Refused unless the environment's generation is this.
        if_generation: Option<Generation>,
    },
    /// Runs the smoke tests.
    Verify {
        /// Which.
        environment: EnvironmentId,
        /// Refused unless the environment's generation is this.
        if_generation: Option<Generation>,
    },
    /// New sessions go to `to` from the confirmed generation on.
    Flip {
        /// Where to.
        to: EnvironmentId,
        /// Refused unless the route generation is this.
        if_generation: Option<Generation>,
        /// How long to wait for the gateways; `None`: the realm's limit. The flip stands either way.
        confirm: Option<Duration>,
        /// For the audit record.
        reason: String,
    },
    /// The same flip backwards.
    Rollback {
        /// Back to this; `None`: what was accepting before.
        to: Option<EnvironmentId>,
        /// What happens to those on the environment that is left.
        choice: Choice,
        /// Refused unless the route generation is this.
        if_generation: Option<Generation>,
        /// For the audit record.
        reason: String,
    },
    /// Nobody new is taken in (they are held), or the end of that.
    Freeze {
        /// True: stop taking new sessions.
        frozen: bool,
        /// For the audit record.
        reason: String,
    },
    /// Gives the drain of an environment that was flipped away from its policy.
    StartDrain {
        /// Which.
        environment: EnvironmentId,
        /// How.
        policy: Policy,
    },
    /// Brings a drain's deadline forward.
    ForceDrain {
        /// Which.
        environment: EnvironmentId,
        /// From now.
        deadline: Duration,
        /// Also those with an extension.
        ignore_extensions: bool,
    },
    /// Starts a rollout. All ids it will need come with it, so that a crash cannot make two of anything.
    StartRollout(Box<StartRollout>),
    /// Stops a rollout before its next step begins.
    PauseRollout {
        /// Which.
        rollout: RolloutId,
        /// Shown.
        reason: String,
    },
    /// Goes on; a step that failed is tried again.
    ResumeRollout {
        /// Which.
        rollout: RolloutId,
    },
    /// Takes it back: before the flip green is retired, after it traffic goes back.
    AbortRollout {
        /// Which.
        rollout: RolloutId,
        /// Shown.
        reason: String,
        /// What happens to those on green. Only matters after the flip.
        choice: Choice,
    },
    /// Moves the label blue to this environment.
    Relabel {
        /// Which.
        environment: EnvironmentId,
        /// Refused unless the environment's generation is this.
        if_generation: Option<Generation>,
    },
    /// Takes a snapshot of the active environment.
    Snapshot {
        /// Of which.
        environment: EnvironmentId,
        /// The id to store it under.
        snapshot: SnapshotId,
        /// Refused unless the environment's generation is this.
        if_generation: Option<Generation>,
    },
    /// Makes an environment of this realm from a snapshot of this or another realm.
    Clone(Box<CloneCommand>),
    /// A verified snapshot was checked again (or deleted: `None`); keeps the realm's record of it true.
    SnapshotChecked {
        /// Which.
        snapshot: SnapshotId,
        /// What was found; `None`: it is gone. Refused with `IN_USE` while an environment needs it, unless `force`.
        facts: Option<SnapshotFacts>,
        /// Delete even when in use.
        force: bool,
    },
    /// Stops an environment's servers for good.
    Retire {
        /// Which.
        environment: EnvironmentId,
        /// Refused unless the environment's generation is this.
        if_generation: Option<Generation>,
    },
    /// Sets how many servers a fleet has.
    Scale {
        /// Of which environment.
        environment: EnvironmentId,
        /// Which fleet.
        fleet: FleetName,
        /// 1 to 1000.
        replicas: u32,
        /// Refused unless the environment's generation is this.
        if_generation: Option<Generation>,
    },
}

/// Arguments of [`Command::StartRollout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRollout {
    /// The rollout's id.
    pub id: RolloutId,
    /// What to do.
    pub spec: RolloutSpec,
    /// The id of green, if none suits that exists.
    pub green: EnvironmentId,
    /// The id of the snapshot it will take.
    pub snapshot: SnapshotId,
    /// The id of the next green it will clone.
    pub next_green: EnvironmentId,
}

/// Arguments of [`Command::Clone`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneCommand {
    /// The new environment's id.
    pub id: EnvironmentId,
    /// The snapshot's id.
    pub snapshot: SnapshotId,
    /// The realm it was taken of.
    pub source: RealmId,
    /// What the shell knows of the snapshot (it may be another realm's).
    pub facts: SnapshotFacts,
    /// What the clone runs.
    pub build: BuildInfo,
    /// Its fleets; empty: as blue (in the snapshot's own realm). Another realm's clone names them.
    pub fleets: Vec<Fleet>,
}

/// One line of a checklist or of the smoke tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// It is as it should be.
    pub ok: bool,
    /// Not as it should be, but it stops nothing.
    pub warning: bool,
    /// Why.
    pub why: String,
}

impl Check {
    /// True when this line stops what it was made for.
    #[must_use]
    pub const fn stops(&self) -> bool {
        !self.ok && !self.warning
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The servers of one environment, whenever they change (and at least every few seconds).
    ServersObserved(EnvironmentObservation),
    /// Who is where, about once a second and at once when it changes while something drains.
    Occupancy(OccupancyReport),
    /// Answer to [`crate::Effect::AwaitAcks`].
    TableAcked {
        /// As asked.
        generation: Generation,
        /// Live gateways that did not acknowledge in time; empty: confirmed.
        missing: Vec<GatewayId>,
        /// From the change being durable to the last acknowledgement, in microseconds.
        confirm_us: u64,
    },
    /// Answer to [`crate::Effect::RunSmoke`].
    SmokeDone {
        /// As asked.
        environment: EnvironmentId,
        /// As asked.
        attempt: u32,
        /// One line a test; empty counts as failed.
        checks: Vec<Check>,
    },
    /// Answer to [`crate::Effect::TakeSnapshot`].
    SnapshotDone {
        /// As asked.
        snapshot: SnapshotId,
        /// As asked.
        attempt: u32,
        /// What was stored.
        facts: SnapshotFacts,
    },
    /// Answer to [`crate::Effect::TakeSnapshot`].
    SnapshotFailed {
        /// As asked.
        snapshot: SnapshotId,
        /// As asked.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// Answer to [`crate::Effect::CloneFrom`].
    CloneDone {
        /// As asked.
        environment: EnvironmentId,
        /// As asked.
        attempt: u32,
    },
    /// Answer to [`crate::Effect::CloneFrom`].
    CloneFailed {
        /// As asked.
        environment: EnvironmentId,
        /// As asked.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// Answer to [`crate::Effect::StopServers`].
    ServersStopped {
        /// As asked.
        environment: EnvironmentId,
    },
}
