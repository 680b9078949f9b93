//! The gateway's search for a home: directory, take-over, `Find`, claim.

use crate::spec::Rules;
use crate::state::{Asked, Entry, Held, Home, PAIR, Standing, State, ToServer};

impl State {
    /// Asks the directory where the character lives, and goes there.
    pub(crate) fn seek(&mut self, g: usize, rules: &Rules) {
        let entry = self.directory;
        let seen = self.gateways[g].seen;
        if rules.trust_directory {
            self.gateways[g].seen = entry.epoch;
            self.gateways[g].granted = entry.epoch;
        } else if entry.epoch < seen {
            // Older than what was seen: it says nothing about now.
            return self.find(g);
        }
        self.see(g, entry.epoch);
        match entry {
            Entry { epoch: held, home: Some((server, run)) } => {
                self.stand(g, Standing::Taking { server, run: Some(run), held });
                self.take(g);
            }
            Entry { epoch: 0, home: None } => self.find(g),
            // Whoever was granted it has left.
            Entry { epoch, home: None } => {
                self.grant(g, epoch);
                self.stand(g, Standing::Claiming { from: epoch });
            }
        }
    }

    /// The directory does not answer: as if nothing were known.
    pub(crate) fn unanswered(&mut self, g: usize) -> Option<()> {
        let Standing::Taking { run: Some(_), .. } = self.gateways[g].session.as_ref()?.standing else { return None };
        self.find(g);
        Some(())
    }

    /// Takes the character over where it is said to be held. The server and the realm database decide; the directory is told
    /// afterwards.
    pub(crate) fn take(&mut self, g: usize) -> Option<()> {
        let Standing::Taking { server, run, held } = self.gateways[g].session.as_ref()?.standing else { return None };
        let now = &self.servers[server];
        if run.is_some_and(|run| run != now.run || !now.up) {
            // Confirmed dead. That the number was granted to this server is only the directory's word.
            self.find(g);
            return Some(());
        }
        if !self.reachable(g, server) {
            return None;
        }
        let home = Home { server, run: now.run, epoch: self.gateways[g].seen.max(held) + 1 };
        self.say(g, server, ToServer::TakeOver { epoch: home.epoch });
        self.stand(g, Standing::Attaching { home, from: None });
        Some(())
    }

    /// Compare-and-set, upward only: `false` if the directory knows a higher epoch than this gateway.
    pub(crate) fn commit(&mut self, g: usize, home: Home, answered: bool) -> bool {
        if !answered {
            return true;
        }
        if self.directory.epoch >= home.epoch {
            self.see(g, self.directory.epoch);
            return false;
        }
        self.enter(Entry { epoch: home.epoch, home: Some((home.server, home.run)) });
        true
    }

    /// A search over all servers begins.
    pub(crate) fn find(&mut self, g: usize) {
        let from = self.gateways[g].granted;
        self.gateways[g].round = (self.gateways[g].round + 1) % 4;
        self.stand(g, Standing::Finding { from, asked: [Asked::No; PAIR] });
        for s in 0..PAIR {
            self.find_at(g, s);
        }
    }

    /// Puts the question to one server, or counts it as answered if that run is confirmed dead.
    pub(crate) fn find_at(&mut self, g: usize, s: usize) -> Option<()> {
        let Standing::Finding { from, mut asked } = self.gateways[g].session.as_ref()?.standing.clone() else {
            return None;
        };
        if asked[s] != Asked::No {
            return None;
        }
        if !self.servers[s].up {
            asked[s] = Asked::Nothing;
        } else if self.reachable(g, s) {
            let round = self.gateways[g].round;
            self.say(g, s, ToServer::Find { round });
            asked[s] = Asked::Sent;
        } else {
            return None;
        }
        self.searched(g, from, asked);
        Some(())
    }

    pub(crate) fn found(
        &mut self,
        g: usize,
        s: usize,
        (from, mut asked): (u8, [Asked; PAIR]),
        held: Option<Held>,
        rules: &Rules,
    ) {
        match held {
            Some(Held { epoch, inert: false, granted }) => {
                self.see(g, epoch);
                if granted {
                    self.grant(g, epoch);
                }
                let restoring = self.gateways[g].session.as_ref().is_some_and(|session| session.restoring);
                if restoring && !rules.claim_over_others {
                    self.end(g);
                } else {
                    self.stand(g, Standing::Taking { server: s, run: None, held: epoch });
                    self.take(g);
                }
            }
            Some(Held { inert: true, .. }) | None => {
                asked[s] = Asked::Nothing;
                self.searched(g, from, asked);
            }
        }
    }

    fn searched(&mut self, g: usize, from: u8, asked: [Asked; PAIR]) {
        if asked == [Asked::Nothing; PAIR] {
            self.stand(g, Standing::Claiming { from });
        } else {
            self.stand(g, Standing::Finding { from, asked });
        }
    }

    /// Gives the character a home there.
    pub(crate) fn claim(&mut self, g: usize, s: usize, answered: bool, rules: &Rules) -> Option<()> {
        let Standing::Claiming { from } = self.gateways[g].session.as_ref()?.standing else { return None };
        if !self.reachable(g, s) {
            return None;
        }
        self.see(g, from);
        let home = Home { server: s, run: self.servers[s].run, epoch: self.gateways[g].seen + 1 };
        if self.commit(g, home, answered) {
            self.say(g, s, ToServer::Attach { epoch: home.epoch, from });
            self.stand(g, Standing::Attaching { home, from: Some(from) });
        } else {
            self.seek(g, rules);
        }
        Some(())
    }

    /// Asks once more a server that was not ready.
    pub(crate) fn retry(&mut self, g: usize, rules: &Rules) -> Option<()> {
        let Standing::Retrying { home, from } = self.gateways[g].session.as_ref()?.standing else { return None };
        if self.servers[home.server].run != home.run || !self.reachable(g, home.server) {
            self.seek(g, rules);
            return Some(());
        }
        let epoch = home.epoch;
        let message = from.map_or(ToServer::TakeOver { epoch }, |from| ToServer::Attach { epoch, from });
        self.say(g, home.server, message);
        self.stand(g, Standing::Attaching { home, from });
        Some(())
    }

    /// Tells the directory again what it has forgotten.
    pub(crate) fn announce(&mut self, g: usize) -> Option<()> {
        let Standing::Playing(home) = self.gateways[g].session.as_ref()?.standing else { return None };
        self.raise(home).then_some(())
    }

    pub(crate) fn raise(&mut self, home: Home) -> bool {
        let known = self.directory;
        if known.epoch > home.epoch || (known.epoch == home.epoch && known.home.is_some()) {
            return false;
        }
        self.enter(Entry { epoch: home.epoch, home: Some((home.server, home.run)) });
        true
    }
}
