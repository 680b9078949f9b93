//! The gateway's side of a hand-over from one world server to the other.

use crate::spec::Rules;
use crate::state::{Home, Standing, State, ToServer};

impl State {
    /// The player crosses a boundary.
    pub(crate) fn freeze(&mut self, g: usize) -> Option<()> {
        let Standing::Playing(home) = self.gateways[g].session.as_ref()?.standing else { return None };
        if self.handovers == 0 || !self.reachable(g, 1 - home.server) || !self.reachable(g, home.server) {
            return None;
        }
        self.handovers -= 1;
        self.say(g, home.server, ToServer::Freeze { epoch: home.epoch });
        self.stand(g, Standing::Freezing(home));
        Some(())
    }

    pub(crate) fn prepare(&mut self, g: usize, source: Home) {
        let server = 1 - source.server;
        if !self.reachable(g, server) {
            return self.thaw(g, source);
        }
        let target = Home { server, run: self.servers[server].run, epoch: self.gateways[g].seen.max(source.epoch) + 1 };
        self.say(g, server, ToServer::Prepare { epoch: target.epoch, from: source.epoch });
        self.stand(g, Standing::Preparing { source, source_up: true, target, prepared: false });
    }

    /// The hand-over fails before its commit: the player plays on where they were.
    pub(crate) fn keep(&mut self, g: usize) -> Option<()> {
        let Standing::Preparing { source, source_up, target, .. } = self.gateways[g].session.as_ref()?.standing else {
            return None;
        };
        self.say(g, target.server, ToServer::Abort { epoch: target.epoch });
        if source_up {
            self.thaw(g, source);
        } else if self.reachable(g, source.server) && self.servers[source.server].run == source.run {
            // The link has come back meanwhile; its roster was read while this was under way.
            self.again(g, source);
        } else {
            self.stand(g, Standing::Lost { home: source, sure: true });
        }
        Some(())
    }

    fn thaw(&mut self, g: usize, source: Home) {
        self.say(g, source.server, ToServer::Thaw { epoch: source.epoch });
        self.stand(g, Standing::Playing(source));
    }

    /// The commit: the directory gives the new home, or says that somebody else has tried for a higher epoch.
    pub(crate) fn hand_over(&mut self, g: usize, answered: bool, rules: &Rules) -> Option<()> {
        let Standing::Preparing { source, target, prepared: true, .. } = self.gateways[g].session.as_ref()?.standing
        else {
            return None;
        };
        if !self.commit(g, target, answered) {
            if rules.release_on_conflict {
                self.say(g, target.server, ToServer::Abort { epoch: target.epoch });
                self.say(g, source.server, ToServer::Release { epoch: source.epoch });
                if self.reachable(g, source.server) {
                    self.dropped = true;
                }
                self.end(g);
            } else {
                self.keep(g)?;
            }
            return Some(());
        }
        self.see(g, target.epoch);
        self.say(g, target.server, ToServer::Activate { epoch: target.epoch });
        if rules.thaw_after_commit {
            self.say(g, source.server, ToServer::Thaw { epoch: source.epoch });
        } else {
            self.say(g, source.server, ToServer::Release { epoch: source.epoch });
        }
        self.stand(g, Standing::Activating { source, target });
        Some(())
    }
}
