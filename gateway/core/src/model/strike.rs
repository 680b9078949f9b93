//! What can happen to a world of several gateways beyond a [`Step`]: to the directory they share, to the gateways
//! themselves, and to world servers that stand still.

use super::{Numbers, Setup, Step, World};

/// Something that befalls a world of several gateways. The argument chooses, as a [`Step`]'s does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The directory is wiped, out of reach or back, or goes back to what it knew before.
    Directory(u16),
    /// A gateway dies, starts anew, or stops in a planned way.
    Gateway(u16),
    /// A world server stands still, or goes on.
    Pause(u16),
    /// A gateway notices that a connection is dead.
    Notice(u16),
}

/// How often what can happen to several gateways only did happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Happening {
    /// The directory forgot everything.
    pub wipes: u64,
    /// The directory went back to an older state.
    pub fallbacks: u64,
    /// The directory did what was asked, and nobody heard of it.
    pub unheard: u64,
    /// The directory did something once more.
    pub repeats: u64,
}

impl World {
    /// As [`World::new`], with so many gateways that share a directory. `core.shared` is to be set.
    #[must_use]
    pub fn several(setup: &Setup, gateways: usize) -> Self {
        Self::with_gateways(setup, gateways)
    }

    /// One thing befalls the world.
    pub fn strike(&mut self, strike: Strike) {
        match strike {
            Strike::Directory(n) => self.directory_acts(usize::from(n)),
            Strike::Gateway(n) => self.gateway_acts(usize::from(n)),
            Strike::Pause(n) => {
                let n = usize::from(n);
                let ids: Vec<_> = self.processes.keys().cloned().collect();
                let id = &ids[n / 2 % ids.len()];
                self.note(|| format!("* {id} {}", if n.is_multiple_of(2) { "stands still" } else { "goes on" }));
                if let Some(process) = self.processes.get_mut(id).filter(|process| process.alive) {
                    process.stopped = n.is_multiple_of(2);
                }
            }
            Strike::Notice(n) => self.notice_one(usize::from(n)),
        }
        self.check_one_home();
    }

    fn gateway_acts(&mut self, n: usize) {
        let index = n / 4 % self.gateways.len();
        match n % 4 {
            0 if self.gateways[index].alive => self.kill_gateway(index),
            1 | 2 => self.start_gateway(index),
            _ => {
                // It asks its players to go elsewhere while it still serves them.
                for player in 0..self.players.len() {
                    let conn = self.players[player].conn.and_then(|conn| self.conns.get(&conn));
                    if conn.is_some_and(|conn| conn.gateway == index)
                        && let Some(other) = self.living_gateway(n / 16 + player)
                    {
                        self.relocate(player, other);
                    }
                }
            }
        }
    }

    /// Everything that befell the world is over.
    pub(super) fn calm(&mut self) {
        for process in self.processes.values_mut() {
            process.stopped = false;
        }
        if self.is_shared() {
            for index in 0..self.gateways.len() {
                self.start_gateway(index);
            }
            self.calm_directory();
        }
    }

    /// How often what can happen to several gateways only did happen.
    #[must_use]
    pub const fn happened(&self) -> Happening {
        let weather = &self.weather;
        Happening {
            wipes: weather.wipes,
            fallbacks: weather.fallbacks,
            unheard: weather.unheard,
            repeats: weather.repeats,
        }
    }
}

impl Numbers {
    /// The next thing that happens in a history of several gateways.
    pub fn several(&mut self) -> Result<Step, Strike> {
        let n = u16::try_from(self.next() & 0xffff).unwrap_or(0);
        match self.next() % 100 {
            0..4 => Err(Strike::Directory(n)),
            4..6 => Err(Strike::Gateway(n)),
            6..8 => Err(Strike::Pause(n)),
            8 => Err(Strike::Notice(n)),
            _ => match self.step() {
                Step::Gateway(n) => Err(Strike::Gateway(n)),
                step @ (Step::Deliver(_)
                | Step::DeliverMany(_)
                | Step::Pass(_)
                | Step::Player(_)
                | Step::Server(_)
                | Step::Link(_)
                | Step::Process(_)
                | Step::Manager(_)
                | Step::Refuse(_)) => Ok(step),
            },
        }
    }
}
