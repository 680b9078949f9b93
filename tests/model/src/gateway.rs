//! The gateway: players who come and go, links that break, and what world servers say.

use crate::spec::Rules;
use crate::state::{Asked, Held, Home, Link, PAIR, Refusal, Session, Standing, State, ToGateway, ToServer};

impl State {
    /// A player says hello: what is there is taken up by the newest connection, or a search begins.
    pub(crate) fn hello(&mut self, g: usize, rules: &Rules) {
        self.player.connection = Some(g);
        match &mut self.gateways[g].session {
            Some(session) => session.connected = true,
            None => self.begin(g, rules),
        }
    }

    fn begin(&mut self, g: usize, rules: &Rules) {
        let standing = Standing::Claiming { from: 0 };
        self.gateways[g].session = Some(Session { connected: true, restoring: false, standing });
        self.seek(g, rules);
    }

    /// The gateway notices that its player is gone.
    pub(crate) fn connection_lost(&mut self, g: usize) -> Option<()> {
        let newest = self.player.connection == Some(g);
        let session = self.gateways[g].session.as_mut().filter(|session| session.connected && !newest)?;
        session.connected = false;
        Some(())
    }

    /// A session without a player has waited long enough.
    pub(crate) fn grace_over(&mut self, g: usize) -> Option<()> {
        let session = self.gateways[g].session.as_mut().filter(|session| !session.connected)?;
        match session.standing {
            Standing::Playing(home) => {
                session.standing = Standing::Leaving(home);
                self.say(g, home.server, ToServer::Leave { epoch: home.epoch });
            }
            Standing::Taking { .. }
            | Standing::Finding { .. }
            | Standing::Claiming { .. }
            | Standing::Retrying { .. } => {
                self.gateways[g].session = None;
            }
            Standing::Attaching { .. }
            | Standing::Freezing(_)
            | Standing::Preparing { .. }
            | Standing::Activating { .. }
            | Standing::Lost { .. }
            | Standing::Leaving(_) => return None,
        }
        Some(())
    }

    /// The session is over here; its player, if any, is told and may come again.
    pub(crate) fn end(&mut self, g: usize) {
        self.gateways[g].session = None;
        if self.player.connection == Some(g) {
            self.player.connection = None;
        }
    }

    /// The old home certainly simulates the player no more: it is dead, or this gateway's lease there is over.
    pub(crate) fn home_freed(&mut self, g: usize, rules: &Rules) -> Option<()> {
        let session = self.gateways[g].session.clone()?;
        let Standing::Lost { home, sure } = session.standing else { return None };
        let server = &self.servers[home.server];
        let dead = !server.up || server.run != home.run;
        let over = self.links[g][home.server] == Link::Down;
        if !(dead || over || rules.skip_lease_wait) {
            return None;
        }
        if !session.connected {
            self.gateways[g].session = None;
        } else if sure {
            self.stand(g, Standing::Claiming { from: home.epoch });
        } else {
            self.find(g);
        }
        Some(())
    }

    /// The gateway's end of a link is gone.
    pub(crate) fn gateway_loses(&mut self, g: usize, s: usize) {
        self.gateways[g].ready[s] = false;
        let Some(session) = &mut self.gateways[g].session else { return };
        match session.standing.clone() {
            Standing::Finding { from, mut asked } if asked[s] == Asked::Sent => {
                asked[s] = Asked::No;
                session.standing = Standing::Finding { from, asked };
            }
            Standing::Attaching { home, from } if home.server == s => {
                session.standing = Standing::Lost { home, sure: from == Some(home.epoch) };
            }
            Standing::Playing(home) | Standing::Leaving(home) | Standing::Freezing(home) if home.server == s => {
                session.standing = Standing::Lost { home, sure: true };
            }
            Standing::Preparing { target, .. } if target.server == s => {
                self.keep(g);
            }
            Standing::Preparing { source, target, prepared, .. } if source.server == s => {
                session.standing = Standing::Preparing { source, source_up: false, target, prepared };
            }
            Standing::Activating { target, .. } if target.server == s => {
                session.standing = Standing::Lost { home: target, sure: false };
            }
            Standing::Taking { .. }
            | Standing::Finding { .. }
            | Standing::Claiming { .. }
            | Standing::Attaching { .. }
            | Standing::Retrying { .. }
            | Standing::Playing(_)
            | Standing::Freezing(_)
            | Standing::Preparing { .. }
            | Standing::Activating { .. }
            | Standing::Lost { .. }
            | Standing::Leaving(_) => {}
        }
    }

    /// Takes the oldest message of a link.
    pub(crate) fn gateway_takes(&mut self, g: usize, s: usize, rules: &Rules) -> Option<()> {
        if self.to_gateway[g][s].is_empty() {
            return None;
        }
        let message = self.to_gateway[g][s].remove(0);
        if let ToGateway::Roster { held } = message {
            self.gateways[g].ready[s] = true;
            self.on_roster(g, s, held);
            return Some(());
        }
        let Some(session) = self.gateways[g].session.clone() else { return Some(()) };
        match (message, session.standing) {
            (ToGateway::Attached { epoch }, Standing::Attaching { home, .. }) if is(home, s, epoch) => {
                self.play(g, home);
            }
            (ToGateway::Attached { epoch }, Standing::Activating { target, .. }) if is(target, s, epoch) => {
                self.play(g, target);
            }
            (ToGateway::AttachRefused { epoch, why }, Standing::Attaching { home, from }) if is(home, s, epoch) => {
                self.attach_refused(g, home, from, why, rules);
            }
            (ToGateway::AttachRefused { epoch, why }, Standing::Activating { target, .. }) if is(target, s, epoch) => {
                if let Refusal::Stale { saved } = why {
                    self.grant(g, saved);
                }
                self.find(g);
            }
            (ToGateway::TakenOver { epoch }, standing) if home_of(&standing).is_some_and(|home| is(home, s, epoch)) => {
                if let Standing::Preparing { target, .. } = standing {
                    self.say(g, target.server, ToServer::Abort { epoch: target.epoch });
                }
                self.end(g);
            }
            (ToGateway::Frozen { epoch }, Standing::Freezing(home)) if is(home, s, epoch) => self.prepare(g, home),
            (ToGateway::FreezeRefused { epoch }, Standing::Freezing(home)) if is(home, s, epoch) => self.play(g, home),
            (ToGateway::Prepared { epoch }, Standing::Preparing { source, source_up, target, .. })
                if is(target, s, epoch) =>
            {
                self.stand(g, Standing::Preparing { source, source_up, target, prepared: true });
            }
            (ToGateway::PrepareRefused { epoch }, Standing::Preparing { target, .. }) if is(target, s, epoch) => {
                self.keep(g);
            }
            (ToGateway::Left { epoch }, Standing::Leaving(home)) if is(home, s, epoch) => self.left(g, home, rules),
            (ToGateway::Found { round, held }, Standing::Finding { from, asked })
                if round == self.gateways[g].round =>
            {
                self.found(g, s, (from, asked), held, rules);
            }
            // Nobody waits for it any more.
            _ => {}
        }
        Some(())
    }

    fn on_roster(&mut self, g: usize, s: usize, held: Option<Held>) {
        let Some(Session { connected, standing: Standing::Lost { home, .. }, .. }) = self.gateways[g].session.clone()
        else {
            return;
        };
        if home.server != s {
            return;
        }
        // Another run holds nothing of this home.
        let held = held.filter(|_| self.servers[s].run == home.run);
        match held {
            Some(held) if held.epoch == home.epoch => {
                self.again(g, home);
            }
            // Another gateway has it.
            Some(held) if held.epoch > home.epoch => {
                self.see(g, held.epoch);
                self.end(g);
            }
            _ if connected => self.find(g),
            _ => self.gateways[g].session = None,
        }
    }

    /// Takes up again what is at home there.
    pub(crate) fn again(&mut self, g: usize, home: Home) {
        let epoch = home.epoch;
        self.say(g, home.server, ToServer::Attach { epoch, from: epoch });
        self.stand(g, Standing::Attaching { home, from: Some(epoch) });
    }

    fn attach_refused(&mut self, g: usize, home: Home, from: Option<u8>, why: Refusal, rules: &Rules) {
        match why {
            Refusal::Stale { saved } => {
                self.grant(g, saved);
                if rules.skip_find {
                    self.stand(g, Standing::Claiming { from: saved });
                } else {
                    self.find(g);
                }
            }
            // The same question again: the directory has this very home already.
            Refusal::NotReady => self.stand(g, Standing::Retrying { home, from }),
            Refusal::Unknown => self.find(g),
        }
    }

    fn left(&mut self, g: usize, home: Home, rules: &Rules) {
        if self.directory.epoch == home.epoch {
            self.enter(crate::state::Entry { epoch: home.epoch, home: None });
        }
        let again = self.gateways[g].session.as_ref().is_some_and(|session| session.connected);
        self.gateways[g].session = None;
        if again {
            self.begin(g, rules);
        }
    }

    pub(crate) fn play(&mut self, g: usize, home: Home) {
        self.grant(g, home.epoch);
        self.raise(home);
        if let Some(session) = &mut self.gateways[g].session {
            session.restoring = true;
            session.standing = Standing::Playing(home);
        }
    }

    pub(crate) fn stand(&mut self, g: usize, standing: Standing) {
        if let Some(session) = &mut self.gateways[g].session {
            session.standing = standing;
        }
    }

    pub(crate) fn see(&mut self, g: usize, epoch: u8) {
        let seen = &mut self.gateways[g].seen;
        *seen = epoch.max(*seen);
    }

    pub(crate) fn grant(&mut self, g: usize, epoch: u8) {
        let granted = &mut self.gateways[g].granted;
        *granted = epoch.max(*granted);
        self.see(g, epoch);
    }

    pub(crate) fn reachable(&self, g: usize, s: usize) -> bool {
        matches!(self.links[g][s], Link::Up | Link::Unnoticed) && self.gateways[g].ready[s]
    }

    /// The servers to which this gateway has a link.
    pub(crate) fn targets(&self, g: usize) -> impl Iterator<Item = usize> + '_ {
        (0..PAIR).filter(move |s| self.reachable(g, *s))
    }
}

fn is(home: Home, server: usize, epoch: u8) -> bool {
    home.server == server && home.epoch == epoch
}

/// The home that a session has at a world server's word.
fn home_of(standing: &Standing) -> Option<Home> {
    match standing {
        Standing::Playing(home)
        | Standing::Freezing(home)
        | Standing::Leaving(home)
        | Standing::Attaching { home, from: Some(_) }
        | Standing::Preparing { source: home, .. } => Some(*home),
        Standing::Taking { .. }
        | Standing::Finding { .. }
        | Standing::Claiming { .. }
        | Standing::Attaching { .. }
        | Standing::Retrying { .. }
        | Standing::Activating { .. }
        | Standing::Lost { .. } => None,
    }
}
