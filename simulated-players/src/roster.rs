//! Who the players are: characters by index, each with a profile and perhaps a party, all drawn from the seed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tidegate_types::{CharacterId, PartyId, PlayerId};

use crate::ledger::Character;
use crate::profile::Profile;
use crate::session::Party;

/// Mixes an index into the seed: an odd constant with well spread bits (the golden ratio in 64 bits).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One character that exists for the whole simulation.
pub(crate) struct Person {
    pub(crate) index: usize,
    pub(crate) player: PlayerId,
    pub(crate) character: CharacterId,
    pub(crate) profile: Arc<Profile>,
    pub(crate) party: Option<Arc<Party>>,
    pub(crate) leader: bool,
    pub(crate) memory: Character,
    sessions: u64,
    seed: u64,
}

impl Person {
    /// The seed of this character's next session.
    pub(crate) fn next_seed(&mut self) -> u64 {
        self.sessions += 1;
        self.seed.wrapping_add(self.sessions.wrapping_mul(SPREAD))
    }
}

/// Makes characters as they are needed, and keeps those who are away.
pub(crate) struct Roster {
    prefix: String,
    profiles: Vec<Arc<Profile>>,
    rng: Pcg64Mcg,
    seed: u64,
    made: usize,
    /// Members of a party that was begun, still to be handed out.
    pending: VecDeque<Person>,
    /// Who is away, and until when.
    away: Vec<(Duration, Person)>,
}

impl Roster {
    pub(crate) fn new(prefix: &str, profiles: Vec<Arc<Profile>>, seed: u64) -> Self {
        Self {
            prefix: prefix.to_owned(),
            profiles,
            rng: Pcg64Mcg::seed_from_u64(seed),
            seed,
            made: 0,
            pending: VecDeque::new(),
            away: Vec::new(),
        }
    }

    /// Somebody who wants to log in now: one who was away for long enough, else somebody new.
    pub(crate) fn next(&mut self, now: Duration) -> Person {
        if let Some(at) = self.away.iter().position(|(until, _)| *until <= now) {
            return self.away.swap_remove(at).1;
        }
        if let Some(person) = self.pending.pop_front() {
            return person;
        }
        let profile = self.draw();
        let size = profile.party.as_ref().map_or(1, |party| usize::from(party.size));
        let party = profile.party.as_ref().map(|_| {
            let name = format!("{}-party-{}", self.prefix, self.made);
            Arc::new(Party::new(PartyId::new(&name).expect("the prefix was checked")))
        });
        for member in 0..size {
            let person = self.make(profile.clone(), party.clone(), member == 0);
            self.pending.push_back(person);
        }
        self.pending.pop_front().expect("a party has at least one member")
    }

    /// Somebody logged out, and comes back after a while.
    pub(crate) fn leaves(&mut self, person: Person, now: Duration, pace: f64) {
        let away = person.profile.away_s / pace * self.rng.random_range(0.5..1.5);
        self.away.push((now + Duration::from_secs_f64(away), person));
    }

    /// All characters that are not in the world.
    pub(crate) fn absent(&self) -> impl Iterator<Item = &Person> {
        self.away.iter().map(|(_, person)| person)
    }

    /// By share, a party counting as one so that the share is one of players.
    fn draw(&mut self) -> Arc<Profile> {
        let weight = |p: &Profile| p.share / p.party.as_ref().map_or(1.0, |party| f64::from(party.size));
        let total: f64 = self.profiles.iter().map(|p| weight(p)).sum();
        let mut draw = self.rng.random_range(0.0..total);
        for profile in &self.profiles {
            if draw < weight(profile) {
                return profile.clone();
            }
            draw -= weight(profile);
        }
        self.profiles[0].clone()
    }

    fn make(&mut self, profile: Arc<Profile>, party: Option<Arc<Party>>, leader: bool) -> Person {
        let index = self.made;
        self.made += 1;
        let name = format!("{}-{index}", self.prefix);
        Person {
            index,
            player: PlayerId::new(&name).expect("the prefix was checked"),
            character: CharacterId::new(&name).expect("the prefix was checked"),
            profile,
            party,
            leader,
            memory: Character::default(),
            sessions: 0,
            seed: self.seed.wrapping_mul(SPREAD) ^ (index as u64).wrapping_mul(SPREAD.rotate_left(17)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile;

    fn roster(seed: u64) -> Roster {
        Roster::new("t", profile::load(None).unwrap(), seed)
    }

    #[test]
    fn shares_are_of_players_and_parties_come_whole() {
        let mut roster = roster(1);
        let people: Vec<Person> = (0..4_000).map(|_| roster.next(Duration::ZERO)).collect();
        let of = |name: &str| people.iter().filter(|p| p.profile.name == name).count();
        assert!((850..1_150).contains(&of("newcomer")), "{}", of("newcomer"));
        assert!((850..1_150).contains(&of("dungeon party")), "{}", of("dungeon party"));
        let leaders = people.iter().filter(|p| p.profile.name == "dungeon party" && p.leader).count();
        assert!(leaders.abs_diff(of("dungeon party") / 4) <= 1);
    }

    #[test]
    fn whoever_was_away_for_long_enough_comes_back_first() {
        let mut roster = roster(1);
        let first = roster.next(Duration::ZERO);
        let name = first.character.clone();
        roster.leaves(first, Duration::ZERO, 1.0);
        assert_ne!(roster.next(Duration::from_secs(1)).character, name);
        assert_eq!(roster.next(Duration::from_secs(3_600)).character, name);
    }

    #[test]
    fn the_same_seed_makes_the_same_people() {
        let names = |seed| {
            let mut roster = roster(seed);
            (0..100)
                .map(|_| roster.next(Duration::ZERO))
                .map(|mut p| (p.profile.name.clone(), p.next_seed()))
                .collect::<Vec<_>>()
        };
        assert_eq!(names(3), names(3));
        assert_ne!(names(3), names(4));
    }
}
