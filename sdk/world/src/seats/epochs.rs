//! The highest epoch that each player was seen to live here. What was lived once is never lived again: that fences off
//! gateways and servers that have slept through a change.

use std::collections::{HashMap, VecDeque};

use tidegate_types::{Epoch, PlayerId};

/// Players remembered. Those forgotten are still fenced by the database (`WHERE epoch = mine`); this is the nearer fence.
const REMEMBERED: usize = 262_144;

#[derive(Debug, Default)]
pub(super) struct Epochs {
    highest: HashMap<PlayerId, Epoch>,
    /// In the order in which they were first seen.
    order: VecDeque<PlayerId>,
}

impl Epochs {
    /// The highest; zero for a player who was never here.
    pub(super) fn highest(&self, player: &PlayerId) -> Epoch {
        self.highest.get(player).copied().unwrap_or_default()
    }

    /// Notes that `epoch` is lived.
    pub(super) fn raise(&mut self, player: &PlayerId, epoch: Epoch) {
        if let Some(highest) = self.highest.get_mut(player) {
            *highest = epoch.max(*highest);
            return;
        }
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.highest.remove(&oldest);
        }
        self.order.push_back(player.clone());
        self.highest.insert(player.clone(), epoch);
    }
}
