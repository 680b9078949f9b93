//! The same flip backwards, with a choice for those who are already on the environment that is left.
//!
//! Refused, with the reason, where the older build could not read what the newer one wrote; `freeze` is then what is left.

use std::time::Duration;

use tidegate_types::{Cause, EnvironmentId, Generation, RolloutId, Timestamp};

use crate::drain::{AtDeadline, Policy};
use crate::environment::Label;
use crate::flip::Direction;
use crate::outcome::{Change, Outcome, Reply};
use crate::realm::Realm;
use crate::refused::{Reason, Refused};
use crate::routing::Freeze;

/// What happens to players on the environment that is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// They stay until they log out; boundaries keep them there.
    Finish,
    /// They go at their next boundary.
    NextBoundary,
    /// They are moved.
    Force {
        /// How long they have.
        deadline: Duration,
    },
    /// Nobody new on it, nobody moved; the older environment does not take players either.
    Freeze,
}

impl Choice {
    /// The stable word, as the command line says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::NextBoundary => "next-boundary",
            Self::Force { .. } => "force",
            Self::Freeze => "freeze",
        }
    }
}

impl Realm {
    pub(crate) fn rollback(
        &mut self,
        now: Timestamp,
        to: Option<EnvironmentId>,
        choice: Choice,
        if_generation: Option<Generation>,
        reason: &str,
        out: &mut Outcome,
    ) -> Result<(), Refused> {
        self.expect_route_generation(if_generation)?;
        let generation = if choice == Choice::Freeze {
            self.freeze_all(now, reason, out)?
        } else {
            let from = self.rows.routing.accepting.clone();
            let generation = self.roll_back(now, to, choice, reason, None, out)?;
            if let Some(from) = from {
                self.rollouts_rolled_back(&from, choice, reason, out);
            }
            generation
        };
        out.reply = Reply::Flip(generation);
        Ok(())
    }

    /// Nobody new, nobody moved. It needs no target, and nothing can be in its way but having no players at all.
    fn freeze_all(&mut self, now: Timestamp, reason: &str, out: &mut Outcome) -> Result<Generation, Refused> {
        if self.rows.routing.accepting.is_none() {
            return Err(Refused::new(
                Reason::NothingAccepting,
                "the realm has no accepting environment",
                "nothing to do: nobody is taken in",
            ));
        }
        let routing = &mut self.rows.routing;
        if routing.frozen.is_some() && routing.hold_pins {
            return Ok(routing.generation);
        }
        routing.frozen.get_or_insert_with(|| Freeze { since: now, reason: reason.to_owned() });
        routing.hold_pins = true;
        let generation = routing.generation.next();
        out.changes.insert(Change::Routing);
        out.audit(None, "rollback", &self.rows.id, reason, "open", Choice::Freeze.as_str());
        self.rollouts_frozen(reason, out);
        Ok(generation)
    }

    /// Sends new sessions back. `who` is the rollout that takes itself back, if one does.
    pub(crate) fn roll_back(
        &mut self,
        now: Timestamp,
        to: Option<EnvironmentId>,
        choice: Choice,
        reason: &str,
        who: Option<&RolloutId>,
        out: &mut Outcome,
    ) -> Result<Generation, Refused> {
        let Some(to) = to.or_else(|| self.rows.routing.previous.clone()) else {
            return Err(Refused::new(
                Reason::NothingToRollBack,
                "no other environment was accepting before",
                "name the environment to go back to, or freeze the realm",
            ));
        };
        let permit = self.may_flip(now, &to, Direction::Back)?;
        let from = self.rows.routing.accepting.clone();
        let was_blue = from.as_ref().is_some_and(|id| self.rows.environments[id].label == Some(Label::Blue));
        let generation =
            self.apply_flip(now, permit, None, format!("rollback ({}): {reason}", choice.as_str()), who, out);
        if was_blue {
            // What is rolled back from is not the stable one any more.
            self.give_label(&to, Label::Blue, who, out);
        }
        if let Some(from) = from {
            self.apply_choice(now, &from, choice, out);
        }
        Ok(generation)
    }

    fn apply_choice(&mut self, now: Timestamp, from: &EnvironmentId, choice: Choice, out: &mut Outcome) {
        match choice {
            Choice::Finish => self.rows.routing.hold_pins = true,
            Choice::NextBoundary => {
                self.rows.routing.leave_at_boundary.insert(from.clone());
            }
            Choice::Force { deadline } => {
                let policy = Policy { deadline: Some(deadline), at_deadline: AtDeadline::Move, ..Policy::natural() };
                self.give_policy(now, from, policy, Cause::Operator, None, out);
                if let Some(drain) = self.rows.drains.get_mut(from) {
                    drain.ignore_extensions = true;
                }
            }
            Choice::Freeze => {}
        }
        out.changes.insert(Change::Routing);
    }
}
