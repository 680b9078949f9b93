//! What goes wrong, and what goes right again by itself.

use crate::spec::Rules;
use crate::state::{Entry, Fault, Link, PAIR, Phase, State};

impl State {
    pub(crate) fn fail(&mut self, fault: Fault, rules: &Rules) -> Option<()> {
        self.faults = self.faults.checked_sub(1)?;
        match fault {
            Fault::BreakAtGateway(g, s) if self.links[g][s] == Link::Up => {
                self.cut(g, s, Link::Leased);
                self.gateway_loses(g, s);
            }
            Fault::BreakAtServer(g, s) if self.links[g][s] == Link::Up => {
                self.cut(g, s, Link::Unnoticed);
                self.server_loses(g, s);
            }
            Fault::KillGateway(g) if self.gateways[g].up => {
                for s in 0..PAIR {
                    let link = match self.links[g][s] {
                        Link::Up | Link::Leased => Link::Leased,
                        Link::Down | Link::Unnoticed => Link::Down,
                    };
                    self.cut(g, s, link);
                }
                let gateway = &mut self.gateways[g];
                gateway.up = false;
                gateway.ready = [false; PAIR];
                gateway.session = None;
                gateway.seen = 0;
                gateway.granted = 0;
                gateway.round = 0;
                for seat in self.servers.iter_mut().filter_map(|server| server.seat.as_mut()) {
                    seat.owner = seat.owner.filter(|owner| *owner != g);
                    if let Phase::Reclaiming { taker, .. } = &mut seat.phase {
                        *taker = taker.filter(|taker| *taker != g);
                    }
                }
                if self.player.connection == Some(g) {
                    self.player.connection = None;
                }
            }
            Fault::KillServer(s) if self.servers[s].up => {
                for g in 0..PAIR {
                    let link = match self.links[g][s] {
                        Link::Up | Link::Unnoticed => Link::Unnoticed,
                        Link::Down | Link::Leased => Link::Down,
                    };
                    self.cut(g, s, link);
                }
                self.servers[s].up = false;
                self.servers[s].seat = None;
            }
            Fault::Wipe if self.directory != Entry::default() => self.directory = Entry::default(),
            Fault::FailOver if self.directory != self.replica => self.directory = self.replica,
            // Whatever the gateway wants of the directory next.
            Fault::Unavailable(g) => {
                let targets: Vec<usize> = self.targets(g).take(1).collect();
                self.unanswered(g)
                    .or_else(|| self.hand_over(g, false, rules))
                    .or_else(|| self.claim(g, *targets.first()?, false, rules))?;
            }
            Fault::BreakAtGateway(..)
            | Fault::BreakAtServer(..)
            | Fault::KillGateway(_)
            | Fault::KillServer(_)
            | Fault::Wipe
            | Fault::FailOver => return None,
        }
        Some(())
    }

    fn cut(&mut self, g: usize, s: usize, link: Link) {
        self.links[g][s] = link;
        self.to_server[g][s].clear();
        self.to_gateway[g][s].clear();
    }

    /// The end of a link that did not know learns it: the lease is over, or the gateway notices.
    pub(crate) fn notice(&mut self, g: usize, s: usize) -> Option<()> {
        match self.links[g][s] {
            Link::Leased => self.server_loses(g, s),
            Link::Unnoticed if self.gateways[g].up => self.gateway_loses(g, s),
            Link::Unnoticed | Link::Down | Link::Up => return None,
        }
        self.links[g][s] = Link::Down;
        Some(())
    }

    pub(crate) fn reconnect(&mut self, g: usize, s: usize) -> Option<()> {
        let possible = self.gateways[g].up && self.servers[s].up;
        if !possible || !matches!(self.links[g][s], Link::Down | Link::Leased) {
            return None;
        }
        self.connect(g, s);
        Some(())
    }

    pub(crate) fn restart_gateway(&mut self, g: usize) -> Option<()> {
        let gateway = &mut self.gateways[g];
        (!std::mem::replace(&mut gateway.up, true)).then_some(())
    }

    pub(crate) fn restart_server(&mut self, s: usize) -> Option<()> {
        let server = &mut self.servers[s];
        if server.up {
            return None;
        }
        server.up = true;
        server.run += 1;
        Some(())
    }
}
