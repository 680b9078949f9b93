//! Login tickets are good for one login: which were used, until they expire.

use std::collections::{BTreeSet, HashMap};

use tidegate_types::Timestamp;
use uuid::Uuid;

/// Why a ticket cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// It was used before.
    Used,
    /// No more can be remembered; taking it could let it be used twice.
    Full,
}

/// Used tickets, at most a fixed number.
#[derive(Debug)]
pub(crate) struct UsedTickets {
    limit: usize,
    used: HashMap<Uuid, Timestamp>,
    /// The same ones, the next to expire first.
    by_expiry: BTreeSet<(Timestamp, Uuid)>,
}

impl UsedTickets {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: HashMap::new(), by_expiry: BTreeSet::new() }
    }

    /// Takes the ticket: from now until it expires it is used.
    pub(crate) fn take(&mut self, id: Uuid, expires: Timestamp, now: Timestamp) -> Result<(), NotTaken> {
        while let Some(&(at, old)) = self.by_expiry.first()
            && at <= now
        {
            self.by_expiry.pop_first();
            self.used.remove(&old);
        }
        if self.used.contains_key(&id) {
            return Err(NotTaken::Used);
        }
        if self.used.len() >= self.limit {
            return Err(NotTaken::Full);
        }
        self.used.insert(id, expires);
        self.by_expiry.insert((expires, id));
        Ok(())
    }

    /// Gives a ticket back that let nobody in: the player may try again with it.
    pub(crate) fn give_back(&mut self, id: Uuid) {
        if let Some(expires) = self.used.remove(&id) {
            self.by_expiry.remove(&(expires, id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_login_until_it_expires() {
        let mut used = UsedTickets::new(10);
        let id = Uuid::from_u128(1);
        assert_eq!(used.take(id, Timestamp(100), Timestamp(0)), Ok(()));
        assert_eq!(used.take(id, Timestamp(100), Timestamp(99)), Err(NotTaken::Used));
        // Expired tickets are refused before they come here; forgetting them keeps the set small.
        assert_eq!(used.take(id, Timestamp(200), Timestamp(100)), Ok(()));
    }

    #[test]
    fn a_ticket_that_let_nobody_in_can_be_tried_again() {
        let mut used = UsedTickets::new(10);
        let id = Uuid::from_u128(1);
        used.take(id, Timestamp(100), Timestamp(0)).unwrap();
        used.give_back(id);
        assert_eq!(used.take(id, Timestamp(100), Timestamp(1)), Ok(()));
        assert_eq!(used.take(id, Timestamp(100), Timestamp(2)), Err(NotTaken::Used));
    }

    #[test]
    fn a_ticket_that_is_tried_over_and_over_takes_one_place() {
        let mut used = UsedTickets::new(2);
        let id = Uuid::from_u128(1);
        for n in 0..10 {
            assert_eq!(used.take(id, Timestamp(100 + n), Timestamp(0)), Ok(()));
            used.give_back(id);
        }
        assert_eq!(used.take(id, Timestamp(100), Timestamp(0)), Ok(()));
        assert_eq!(used.take(Uuid::from_u128(2), Timestamp(200), Timestamp(1)), Ok(()));
        // What was given back long ago does not end what was taken later.
        assert_eq!(used.take(Uuid::from_u128(2), Timestamp(200), Timestamp(150)), Err(NotTaken::Used));
    }

    #[test]
    fn a_full_memory_refuses_rather_than_forgets() {
        let mut used = UsedTickets::new(2);
        for n in 0..2 {
            used.take(Uuid::from_u128(n), Timestamp(100), Timestamp(0)).unwrap();
        }
        assert_eq!(used.take(Uuid::from_u128(9), Timestamp(100), Timestamp(50)), Err(NotTaken::Full));
        assert_eq!(used.take(Uuid::from_u128(9), Timestamp(300), Timestamp(100)), Ok(()));
    }
}
