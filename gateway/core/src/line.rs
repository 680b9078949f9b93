//! Who waits, in order. One lane for each thing that is waited for, so that a full zone holds nobody up who wants another;
//! within a lane first come, first served.

use std::collections::BTreeMap;

use tidegate_types::EnvironmentId;

use crate::key::SessionKey;
use crate::message::Place;

/// What is waited for. Lanes are served in this order: those who have lost their home before those who are new.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Another home in the same environment.
    Home(Option<EnvironmentId>, Option<Place>),
    /// A first home.
    Login(Option<Place>),
    /// The shared directory's answer. Room that becomes free is nothing to these.
    Directory,
}

/// The line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    lanes: BTreeMap<Lane, BTreeMap<u64, SessionKey>>,
    tickets: BTreeMap<SessionKey, (Lane, u64)>,
    next: u64,
}

impl Line {
    /// Joins the end of the lane, or keeps the place if already in it. Returns the place, from 1.
    pub(crate) fn join(&mut self, session: SessionKey, lane: Lane) -> u32 {
        if let Some((now, ticket)) = self.tickets.get(&session) {
            if *now == lane {
                return self.place(&lane, *ticket);
            }
            self.leave(session);
        }
        let ticket = self.next;
        self.next += 1;
        self.tickets.insert(session, (lane.clone(), ticket));
        let waiting = self.lanes.entry(lane).or_default();
        waiting.insert(ticket, session);
        u32::try_from(waiting.len()).unwrap_or(u32::MAX)
    }

    fn place(&self, lane: &Lane, ticket: u64) -> u32 {
        let before = self.lanes.get(lane).map_or(0, |waiting| waiting.range(..ticket).count());
        u32::try_from(before + 1).unwrap_or(u32::MAX)
    }

    /// Leaves the line.
    pub(crate) fn leave(&mut self, session: SessionKey) {
        if let Some((lane, ticket)) = self.tickets.remove(&session)
            && let Some(waiting) = self.lanes.get_mut(&lane)
        {
            waiting.remove(&ticket);
            if waiting.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }

    /// Who is next in a lane.
    #[must_use]
    pub(crate) fn front(&self, lane: &Lane) -> Option<SessionKey> {
        self.lanes.get(lane)?.values().next().copied()
    }

    /// The lanes, in order of service.
    #[must_use]
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        self.lanes.keys().cloned().collect()
    }

    /// Everyone with their place, lane by lane, at most `limit` of each lane.
    pub(crate) fn places(&self, limit: usize) -> impl Iterator<Item = (SessionKey, u32)> {
        self.lanes.values().flat_map(move |waiting| waiting.values().take(limit).copied().zip(1..))
    }

    /// How many wait.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// True if nobody waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_within_a_lane() {
        let (a, b, c) = (SessionKey(7), SessionKey(3), SessionKey(5));
        let lane = Lane::Login(None);
        let mut line = Line::default();
        assert_eq!((line.join(a, lane.clone()), line.join(b, lane.clone()), line.join(c, lane.clone())), (1, 2, 3));
        assert_eq!(line.join(b, lane.clone()), 2, "asking again keeps the place");
        line.leave(a);
        assert_eq!(line.front(&lane), Some(b));
        assert_eq!(line.places(10).collect::<Vec<_>>(), [(b, 1), (c, 2)]);
        line.join(b, Lane::Home(None, None));
        assert_eq!(line.lanes(), [Lane::Home(None, None), lane.clone()]);
        assert_eq!(line.front(&lane), Some(c));
        line.leave(b);
        line.leave(c);
        assert!(line.is_empty() && line.lanes().is_empty());
    }
}
