//! The model for the checker: where it begins, what may happen next, what must hold.

use stateright::{Model, Property};

use crate::state::{Entry, Fault, Gateway, Home, Link, PAIR, Phase, Player, Seat, Server, Session, Standing, State};

/// Rules of the protocol. The default is the protocol; each switch takes one rule away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// A claim goes out from exactly one saved epoch; else from any lower one.
    pub claim_exactly: bool,
    /// World servers and the realm database accept epochs that are over.
    pub skip_epoch_check: bool,
    /// A gateway gives a lost player a new home before its lease at the old one is over.
    pub skip_lease_wait: bool,
    /// The source of a hand-over is thawed although the hand-over is committed.
    pub thaw_after_commit: bool,
    /// A player frozen for a gateway whose link lives may be taken over.
    pub take_over_frozen: bool,
    /// The directory's epoch is believed to be the one granted, whatever is known.
    pub trust_directory: bool,
    /// A conflict at the commit of a hand-over makes the gateway release the player.
    pub release_on_conflict: bool,
    /// After a refused claim the next goes out from what the refusal said, without asking the servers.
    pub skip_find: bool,
    /// A gateway whose lost session another gateway has taken takes it back by itself.
    pub claim_over_others: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            claim_exactly: true,
            skip_epoch_check: false,
            skip_lease_wait: false,
            thaw_after_commit: false,
            take_over_frozen: false,
            trust_directory: false,
            release_on_conflict: false,
            skip_find: false,
            claim_over_others: false,
        }
    }
}

/// Where a check begins, and how much may happen in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The player is in play at server 0 through gateway 0; else nobody has ever been in.
    pub in_play: bool,
    /// With `in_play`: the directory has gone back to the home before the last hand-over.
    pub behind: bool,
    /// Faults.
    pub faults: u8,
    /// Hand-overs begun.
    pub handovers: u8,
    /// Hellos of a player who is connected (another client, another network).
    pub hellos: u8,
    /// Logouts.
    pub logouts: u8,
    /// The highest epoch: steps beyond it are not looked at.
    pub epochs: u8,
}

/// The protocol as a model.
#[derive(Debug, Clone)]
pub struct Spec {
    /// By which rules.
    pub rules: Rules,
    /// From where, how far.
    pub case: Case,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The player says hello to this gateway.
    Hello(usize),
    /// The player leaves for good.
    Logout,
    /// This gateway notices that its player is gone.
    ConnectionLost(usize),
    /// The time that this gateway keeps a session without a player is over.
    GraceOver(usize),
    /// This gateway takes the player over where they are said to live.
    Take(usize),
    /// This gateway asks that server whether it holds the player.
    Find(usize, usize),
    /// This gateway claims a home at that server.
    Claim(usize, usize),
    /// This gateway asks once more a server that was not ready.
    Retry(usize),
    /// This gateway tells the directory again where its player lives.
    Announce(usize),
    /// This gateway begins a hand-over.
    Freeze(usize),
    /// A hand-over of this gateway takes too long.
    Cancel(usize),
    /// This gateway commits its hand-over.
    HandOver(usize),
    /// This gateway learns that the old home does not simulate its player.
    HomeFreed(usize),
    /// That server takes a message of this gateway.
    ServerTakes(usize, usize),
    /// This gateway takes a message of that server.
    GatewayTakes(usize, usize),
    /// The realm database answers that server.
    Database(usize),
    /// That server lets a player on no link leave.
    OrphanLeaves(usize),
    /// The other end of a broken link notices, or its lease is over.
    Notice(usize, usize),
    /// A link opens.
    Reconnect(usize, usize),
    /// A gateway starts again.
    RestartGateway(usize),
    /// A world server starts again.
    RestartServer(usize),
    /// Something goes wrong.
    Fault(Fault),
}

impl Spec {
    /// All steps that could be thought of; most are not possible in a given state.
    fn steps() -> Vec<Step> {
        let mut steps = vec![Step::Logout];
        for a in 0..PAIR {
            steps.extend([
                Step::Hello(a),
                Step::ConnectionLost(a),
                Step::GraceOver(a),
                Step::Take(a),
                Step::Retry(a),
                Step::Announce(a),
                Step::Freeze(a),
                Step::Cancel(a),
                Step::HandOver(a),
                Step::HomeFreed(a),
                Step::Database(a),
                Step::OrphanLeaves(a),
                Step::RestartGateway(a),
                Step::RestartServer(a),
                Step::Fault(Fault::KillGateway(a)),
                Step::Fault(Fault::KillServer(a)),
                Step::Fault(Fault::Unavailable(a)),
            ]);
            for b in 0..PAIR {
                steps.extend([
                    Step::Find(a, b),
                    Step::Claim(a, b),
                    Step::ServerTakes(a, b),
                    Step::GatewayTakes(a, b),
                    Step::Notice(a, b),
                    Step::Reconnect(a, b),
                    Step::Fault(Fault::BreakAtGateway(a, b)),
                    Step::Fault(Fault::BreakAtServer(a, b)),
                ]);
            }
        }
        steps.extend([Step::Fault(Fault::Wipe), Step::Fault(Fault::FailOver)]);
        steps
    }

    /// A cheap look at whether a step could be possible at all, so that few states are copied in vain.
    fn may(state: &State, step: Step) -> bool {
        let standing = |g: usize| state.gateways[g].session.as_ref().map(|session| &session.standing);
        match step {
            Step::Hello(g) => {
                state.player.wants && (state.player.connection.is_none() || state.hellos > 0) && state.gateways[g].up
            }
            Step::Logout => state.logouts > 0,
            Step::ConnectionLost(g) | Step::GraceOver(g) => state.gateways[g].session.is_some(),
            Step::Take(g) => matches!(standing(g), Some(Standing::Taking { .. })),
            Step::Find(g, _) => matches!(standing(g), Some(Standing::Finding { .. })),
            Step::Claim(g, s) => matches!(standing(g), Some(Standing::Claiming { .. })) && state.gateways[g].ready[s],
            Step::Retry(g) => matches!(standing(g), Some(Standing::Retrying { .. })),
            Step::Announce(g) => matches!(standing(g), Some(Standing::Playing(_))),
            Step::Freeze(g) => state.handovers > 0 && matches!(standing(g), Some(Standing::Playing(_))),
            Step::Cancel(g) | Step::HandOver(g) => matches!(standing(g), Some(Standing::Preparing { .. })),
            Step::HomeFreed(g) => matches!(standing(g), Some(Standing::Lost { .. })),
            Step::ServerTakes(g, s) => !state.to_server[g][s].is_empty(),
            Step::GatewayTakes(g, s) => !state.to_gateway[g][s].is_empty(),
            Step::Database(s) | Step::OrphanLeaves(s) => state.servers[s].seat.is_some(),
            Step::Notice(g, s) => matches!(state.links[g][s], Link::Leased | Link::Unnoticed),
            Step::Reconnect(g, s) => matches!(state.links[g][s], Link::Leased | Link::Down),
            Step::RestartGateway(g) => !state.gateways[g].up,
            Step::RestartServer(s) => !state.servers[s].up,
            Step::Fault(_) => state.faults > 0,
        }
    }

    /// What comes of a step; `None`: it is not possible now.
    #[must_use]
    pub fn after(&self, state: &State, step: Step) -> Option<State> {
        if !Self::may(state, step) {
            return None;
        }
        let rules = &self.rules;
        let mut next = state.clone();
        match step {
            Step::Hello(g) => next.try_hello(g, rules),
            Step::Logout => next.logout(),
            Step::ConnectionLost(g) => next.connection_lost(g),
            Step::GraceOver(g) => next.grace_over(g),
            Step::Take(g) => next.take(g),
            Step::Find(g, s) => next.find_at(g, s),
            Step::Claim(g, s) => next.claim(g, s, true, rules),
            Step::Retry(g) => next.retry(g, rules),
            Step::Announce(g) => next.announce(g),
            Step::Freeze(g) => next.freeze(g),
            Step::Cancel(g) => next.keep(g),
            Step::HandOver(g) => next.hand_over(g, true, rules),
            Step::HomeFreed(g) => next.home_freed(g, rules),
            Step::ServerTakes(g, s) => next.server_takes(g, s, rules),
            Step::GatewayTakes(g, s) => next.gateway_takes(g, s, rules),
            Step::Database(s) => next.database_answers(s, rules),
            Step::OrphanLeaves(s) => next.orphan_leaves(s),
            Step::Notice(g, s) => next.notice(g, s),
            Step::Reconnect(g, s) => next.reconnect(g, s),
            Step::RestartGateway(g) => next.restart_gateway(g),
            Step::RestartServer(s) => next.restart_server(s),
            Step::Fault(fault) => next.fail(fault, rules),
        }?;
        next.normalise();
        (next != *state).then_some(next)
    }

    /// No epoch is beyond what this case looks at.
    #[must_use]
    pub fn is_within(&self, state: &State) -> bool {
        let seen = state.gateways.iter().map(|gateway| gateway.seen).max().unwrap_or_default();
        seen.max(state.directory.epoch).max(state.saved) <= self.case.epochs
    }

    /// The step happens by itself sooner or later; nobody need choose it, and nothing need go wrong.
    #[must_use]
    pub fn is_bound_to_happen(state: &State, step: Step) -> bool {
        match step {
            Step::Fault(_) | Step::Logout | Step::Freeze(_) => false,
            Step::Hello(_) => state.player.connection.is_none(),
            _ => true,
        }
    }

    /// All that may come of a state, by which step.
    #[must_use]
    pub fn successors(&self, state: &State) -> Vec<(Step, State)> {
        Self::steps().into_iter().filter_map(|step| Some((step, self.after(state, step)?))).collect()
    }

    /// The first state.
    #[must_use]
    pub fn start(&self) -> State {
        let case = &self.case;
        let server = Server { up: true, run: 0, seat: None };
        let gateway = Gateway { up: true, ready: [true; PAIR], seen: 0, granted: 0, session: None, round: 0 };
        let mut state = State {
            servers: [server.clone(), server],
            gateways: [gateway.clone(), gateway],
            links: [[Link::Up; PAIR]; PAIR],
            to_server: Default::default(),
            to_gateway: Default::default(),
            directory: Entry::default(),
            replica: Entry::default(),
            saved: 0,
            player: Player { wants: true, connection: None },
            stale_write: false,
            dropped: false,
            faults: case.faults,
            handovers: case.handovers,
            hellos: case.hellos,
            logouts: case.logouts,
        };
        if case.in_play {
            let epoch = 1 + u8::from(case.behind);
            let home = Home { server: 0, run: 0, epoch };
            state.saved = epoch;
            state.directory = Entry { epoch: 1, home: Some((usize::from(case.behind), 0)) };
            state.servers[0].seat = Some(Seat { epoch, link: Some(0), owner: Some(0), phase: Phase::Playing });
            state.gateways[0].seen = epoch;
            state.gateways[0].granted = epoch;
            state.gateways[0].session =
                Some(Session { connected: true, restoring: true, standing: Standing::Playing(home) });
            state.player.connection = Some(0);
        }
        state
    }
}

impl State {
    fn try_hello(&mut self, g: usize, rules: &Rules) -> Option<()> {
        if !self.player.wants || !self.gateways[g].up {
            return None;
        }
        if self.player.connection.is_some() {
            self.hellos = self.hellos.checked_sub(1)?;
        }
        self.hello(g, rules);
        Some(())
    }

    fn logout(&mut self) -> Option<()> {
        self.logouts = self.logouts.checked_sub(1)?;
        self.player = Player { wants: false, connection: None };
        Some(())
    }

    /// At most one world server simulates the player.
    #[must_use]
    pub fn has_one_home(&self) -> bool {
        (0..PAIR).filter(|s| self.simulates(*s).is_some()).count() <= 1
    }

    /// Who is simulated may also save: nobody is fenced off in play.
    #[must_use]
    pub fn may_save(&self) -> bool {
        (0..PAIR).filter_map(|s| self.simulates(s)).all(|seat| seat.epoch == self.saved)
    }
}

impl Model for Spec {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        actions.extend(Self::steps().into_iter().filter(|step| Self::may(state, *step)));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        self.after(state, step)
    }

    fn within_boundary(&self, state: &State) -> bool {
        self.is_within(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one home", |_, state: &State| state.has_one_home()),
            Property::always("who is in play may save", |_, state: &State| state.may_save()),
            Property::always("no stale write", |_, state: &State| !state.stale_write),
            Property::always("nobody is dropped", |_, state: &State| !state.dropped),
            Property::sometimes("in play", |_, state: &State| state.is_settled()),
        ]
    }
}
