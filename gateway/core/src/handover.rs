//! Moving one live session from world server A to world server B while its connection stays open.
//!
//! ```text
//!             Frozen           Prepared       group ready          done (commit)          Activated
//! Freezing ----------> Preparing ----------> Ready ----------> Committing ----------> Activating ----------> Arrived
//!     |                    |                   |                    |                      |
//!     +--------------------+-------------------+-----conflict-------+                      |
//!     |                    |                   |                                           +--target lost--> TargetGone
//!                          |
//!              refused, timed out, lost, cancelled: abort B, thaw A --> Kept
//! ```
//!
//! Before the commit every failure leaves the player where they were; after it B is the home, whatever happens. While the
//! commit's answer is out, nobody knows which it is, so nothing is given up: the question is repeated until answered.
//! A group's members wait in `Ready` for each other, so that a party is not split by one refusal.
//!
//! No I/O, no time: events come in, orders go out; whoever executes them keeps the one timer of the present step.

use tidegate_types::{Epoch, InstanceId, Mono};

use crate::decide::RoutePermit;
use crate::key::ServerKey;
use crate::message::{Refusal, StateBlob};

/// One session's place on one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// The server.
    pub server: ServerKey,
    /// The handle on its link.
    pub handle: u32,
}

/// A hand-over under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// Where from. The seat means nothing once the source's link broke.
    pub source: Seat,
    /// The run of the source.
    pub source_instance: InstanceId,
    /// Where to. The seat means nothing once the target's link broke.
    pub target: Seat,
    /// The run of the target.
    pub target_instance: InstanceId,
    /// The epoch at the source, and the one it is to have at the target.
    pub epochs: (Epoch, Epoch),
    /// By whose word.
    pub permit: RoutePermit,
    /// On whose behalf.
    pub reason: Reason,
    /// Since when.
    pub since: Mono,
    /// The directory request of the commit, once made.
    pub ask: Option<u64>,
    step: Step,
    source_up: bool,
    target_up: bool,
}

/// On whose behalf a hand-over is made; who is told how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The source asked: a boundary. All of the group go or none.
    Boundary {
        /// The group's key.
        group: u32,
    },
    /// The manager commanded it.
    Command {
        /// The command's id.
        id: String,
    },
}

/// Where a hand-over is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waiting for `Frozen`.
    Freezing,
    /// Waiting for `Prepared`.
    Preparing,
    /// Waiting for the rest of the group.
    Ready,
    /// Waiting for the directory.
    Committing,
    /// Waiting for `Activated`.
    Activating {
        /// Asked twice already.
        again: bool,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The source froze it.
    Frozen {
        /// The state.
        blob: StateBlob,
        /// The target's build reads that format.
        readable: bool,
    },
    /// The source would not.
    FreezeRefused,
    /// The target holds it.
    Prepared,
    /// The target would not.
    PrepareRefused(Refusal),
    /// All of the group are ready.
    GroupReady,
    /// Another of the group failed.
    GroupFailed,
    /// The directory has the new home.
    Committed,
    /// The directory knew better.
    Conflict,
    /// The target plays it.
    Activated,
    /// The source's link broke.
    SourceLost,
    /// The target's link broke.
    TargetLost,
    /// The target would not be the home after all, and has forgotten the player.
    ActivateRefused,
    /// The step took too long.
    Timeout,
    /// The session is to end.
    Cancel,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Tell the target to prepare.
    Prepare(StateBlob),
    /// Tell the group.
    AnnounceReady,
    /// Ask the directory (again: the same question).
    Commit,
    /// Tell the target it is the home (again).
    Activate,
    /// Tell the source to forget the player.
    ReleaseSource,
    /// Tell the source to play on.
    ThawSource,
    /// Tell the target to forget what it prepared.
    AbortTarget,
    /// The target was told nothing, or has answered for good: free its handle.
    FreeTarget,
    /// The target does not answer: break its link, so that its lease ends.
    HangUpTarget,
}

/// How a hand-over ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At the target.
    Arrived,
    /// At the source, playing.
    Kept {
        /// Why.
        why: Kept,
        /// It was told to thaw, and will answer that.
        thawing: bool,
    },
    /// Still the source's, whose link is down.
    SourceGone(Kept),
    /// The target's, whose link is down.
    TargetGone,
    /// Nowhere: the target, whose it was, would not have it. It is restored elsewhere from its last save.
    TargetRefused,
}

/// Why a hand-over left the player where they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// The source would not freeze.
    FreezeRefused,
    /// The target would not prepare.
    PrepareRefused,
    /// The target's build does not read the format.
    Format,
    /// A step took too long.
    TimedOut,
    /// The source's link broke.
    SourceLost,
    /// The target's link broke.
    TargetLost,
    /// Another of the group failed.
    Group,
    /// The session is to end.
    Ended,
    /// The directory has a higher epoch: somebody else tried for the player. The source holds it all the same.
    Conflict,
}

impl Kept {
    /// The stable word of `TransferRefused`.
    #[must_use]
    pub const fn transfer_word(self) -> &'static str {
        match self {
            Self::PrepareRefused | Self::Format | Self::Group => "prepare_refused",
            Self::TimedOut => "timed_out",
            Self::TargetLost => "no_server",
            Self::FreezeRefused | Self::SourceLost | Self::Ended | Self::Conflict => "busy",
        }
    }

    /// For a person.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FreezeRefused => "the world server would not freeze the player",
            Self::PrepareRefused => "the target would not take the player",
            Self::Format => "the target's build does not read the player's state",
            Self::TimedOut => "a step took too long",
            Self::SourceLost => "the player's world server was lost",
            Self::TargetLost => "the target was lost",
            Self::Group => "another of the group could not go",
            Self::Ended => "the session ended",
            Self::Conflict => "another gateway tried for the player at the same moment",
        }
    }
}

/// What an event led to.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    /// To do, in order.
    pub orders: Vec<Order>,
    /// The hand-over is over.
    pub end: Option<End>,
    /// The event does not belong here and now.
    pub stray: bool,
}

impl Handover {
    /// A hand-over whose `Freeze` is being sent.
    #[must_use]
    pub const fn new(
        source: (Seat, InstanceId),
        target: (Seat, InstanceId),
        epochs: (Epoch, Epoch),
        permit: RoutePermit,
        reason: Reason,
        since: Mono,
    ) -> Self {
        Self {
            source: source.0,
            source_instance: source.1,
            target: target.0,
            target_instance: target.1,
            epochs,
            permit,
            reason,
            since,
            ask: None,
            step: Step::Freezing,
            source_up: true,
            target_up: true,
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// True from the commit's answer on: the target is the home.
    #[must_use]
    pub const fn is_committed(&self) -> bool {
        matches!(self.step, Step::Activating { .. })
    }

    /// True while the source's seat means something.
    #[must_use]
    pub const fn source_up(&self) -> bool {
        self.source_up
    }

    /// True while the target's seat means something.
    #[must_use]
    pub const fn target_up(&self) -> bool {
        self.target_up
    }

    /// That seat's link is gone: nothing is to be said there any more. `SourceLost` or `TargetLost` follows, after all the
    /// hand-overs on that link know it.
    pub fn unplug(&mut self, seat: Seat) {
        if self.source == seat {
            self.source_up = false;
        }
        if self.target == seat {
            self.target_up = false;
        }
    }

    /// Takes one event.
    pub fn on(&mut self, event: Event) -> Outcome {
        match event {
            Event::SourceLost => self.source_lost(),
            Event::TargetLost => self.target_lost(),
            Event::Timeout => self.timeout(),
            Event::Cancel => self.give_up(Kept::Ended),
            Event::GroupFailed => self.give_up(Kept::Group),
            Event::Frozen { blob, readable } => match self.step {
                Step::Freezing if !readable => self.keep(Kept::Format, true),
                Step::Freezing => self.go(Step::Preparing, vec![Order::Prepare(blob)]),
                Step::Preparing | Step::Ready | Step::Committing | Step::Activating { .. } => stray(),
            },
            Event::FreezeRefused => match self.step {
                Step::Freezing => self.keep(Kept::FreezeRefused, false),
                Step::Preparing | Step::Ready | Step::Committing | Step::Activating { .. } => stray(),
            },
            Event::Prepared => match self.step {
                Step::Preparing => self.go(Step::Ready, vec![Order::AnnounceReady]),
                Step::Freezing | Step::Ready | Step::Committing | Step::Activating { .. } => stray(),
            },
            Event::PrepareRefused(_) => match self.step {
                Step::Preparing => {
                    let mut outcome = self.keep_without_target(Kept::PrepareRefused);
                    outcome.orders.insert(0, Order::FreeTarget);
                    outcome
                }
                Step::Freezing | Step::Ready | Step::Committing | Step::Activating { .. } => stray(),
            },
            Event::GroupReady => match self.step {
                Step::Ready => self.go(Step::Committing, vec![Order::Commit]),
                Step::Freezing | Step::Preparing | Step::Committing | Step::Activating { .. } => stray(),
            },
            Event::Committed => match self.step {
                Step::Committing => self.committed(),
                Step::Freezing | Step::Preparing | Step::Ready | Step::Activating { .. } => stray(),
            },
            Event::Conflict => match self.step {
                Step::Committing => self.keep(Kept::Conflict, true),
                Step::Freezing | Step::Preparing | Step::Ready | Step::Activating { .. } => stray(),
            },
            Event::ActivateRefused => match self.step {
                Step::Activating { .. } => end(vec![Order::FreeTarget], End::TargetRefused),
                Step::Freezing | Step::Preparing | Step::Ready | Step::Committing => stray(),
            },
            Event::Activated => match self.step {
                Step::Activating { .. } => end(vec![], End::Arrived),
                Step::Freezing | Step::Preparing | Step::Ready | Step::Committing => stray(),
            },
        }
    }

    fn go(&mut self, step: Step, orders: Vec<Order>) -> Outcome {
        self.step = step;
        Outcome { orders, end: None, stray: false }
    }

    fn committed(&mut self) -> Outcome {
        self.step = Step::Activating { again: false };
        let mut orders = Vec::new();
        if self.target_up {
            orders.push(Order::Activate);
        }
        if self.source_up {
            orders.push(Order::ReleaseSource);
        }
        Outcome { orders, end: (!self.target_up).then_some(End::TargetGone), stray: false }
    }

    fn source_lost(&mut self) -> Outcome {
        self.source_up = false;
        match self.step {
            Step::Freezing => self.keep(Kept::SourceLost, false),
            // It is frozen, and its state is in the target's hands: the way is forward.
            Step::Preparing | Step::Ready | Step::Committing | Step::Activating { .. } => Outcome::default(),
        }
    }

    fn target_lost(&mut self) -> Outcome {
        self.target_up = false;
        match self.step {
            Step::Freezing | Step::Preparing | Step::Ready => self.keep(Kept::TargetLost, true),
            // The directory's answer decides whose the player is.
            Step::Committing => Outcome::default(),
            Step::Activating { .. } => end(vec![], End::TargetGone),
        }
    }

    fn timeout(&mut self) -> Outcome {
        match self.step {
            Step::Freezing | Step::Preparing | Step::Ready => self.keep(Kept::TimedOut, true),
            Step::Committing => Outcome { orders: vec![Order::Commit], end: None, stray: false },
            Step::Activating { again: false } => self.go(Step::Activating { again: true }, vec![Order::Activate]),
            Step::Activating { again: true } => Outcome { orders: vec![Order::HangUpTarget], end: None, stray: false },
        }
    }

    fn give_up(&mut self, why: Kept) -> Outcome {
        match self.step {
            Step::Freezing | Step::Preparing | Step::Ready => self.keep(why, true),
            // Too late: it ends where it is going.
            Step::Committing | Step::Activating { .. } => Outcome::default(),
        }
    }

    /// Undoes what the target was told, then lets the source play on.
    fn keep(&mut self, why: Kept, frozen: bool) -> Outcome {
        let target = match (self.target_up, self.step) {
            (false, _) => None,
            (true, Step::Freezing) => Some(Order::FreeTarget),
            (true, Step::Preparing | Step::Ready | Step::Committing | Step::Activating { .. }) => {
                Some(Order::AbortTarget)
            }
        };
        let mut outcome = if frozen { self.keep_without_target(why) } else { self.keep_unfrozen(why) };
        if let Some(order) = target {
            outcome.orders.insert(0, order);
        }
        outcome
    }

    fn keep_without_target(&self, why: Kept) -> Outcome {
        if self.source_up {
            end(vec![Order::ThawSource], End::Kept { why, thawing: true })
        } else {
            end(vec![], End::SourceGone(why))
        }
    }

    fn keep_unfrozen(&self, why: Kept) -> Outcome {
        if self.source_up { end(vec![], End::Kept { why, thawing: false }) } else { end(vec![], End::SourceGone(why)) }
    }
}

fn stray() -> Outcome {
    Outcome { orders: Vec::new(), end: None, stray: true }
}

fn end(orders: Vec<Order>, end: End) -> Outcome {
    Outcome { orders, end: Some(end), stray: false }
}

#[cfg(test)]
mod tests;
