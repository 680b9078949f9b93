//! What a player does next. Pure: a profile, a seeded generator and the time decide; the same seed gives the same life.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;
use tidegate_proto::stub::v1::action::Kind;
use tidegate_proto::stub::v1::{Chat, Die, EnterInstance, Fight, Give, GoTo, LeaveInstance, Ping, SpendItem};
use tidegate_types::ZoneId;

use crate::profile::Profile;

/// Most gold given at once: small against the hundred that everybody begins with, so that trades rarely fail.
const MOST_GIVEN: u64 = 5;
/// A stay is at least this share of its mean: a player who leaves at once does nothing worth a test.
const SHORTEST_STAY: f64 = 0.1;

/// Names a time since the session began.
pub type At = Duration;

/// One session's behaviour.
#[derive(Debug, Clone)]
pub struct Behaviour {
    profile: Arc<Profile>,
    rng: Pcg64Mcg,
    zones: Arc<[ZoneId]>,
    /// Whom a trader gives gold to.
    partners: Arc<[String]>,
    /// Leads its party: only the leader takes it into an instance.
    leader: bool,
    pace: f64,
    next_at: At,
    /// When the session ends by itself; `None`: never.
    leave_at: Option<At>,
    place: Place,
    fighting: bool,
}

/// Where the player is, as far as its behaviour depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Zone(String),
    Instance { leave_at: At },
}

/// Who and where a player is; what [`Behaviour::new`] needs besides the profile.
#[derive(Debug, Clone)]
pub struct Role {
    /// Shared zones, the first being where new characters begin.
    pub zones: Arc<[ZoneId]>,
    /// Characters that a trader may give gold to.
    pub partners: Arc<[String]>,
    /// This player leads its party.
    pub leader: bool,
    /// Divides stays and pauses.
    pub pace: f64,
}

impl Behaviour {
    /// A session that begins now, with everything random drawn from `seed`.
    #[must_use]
    pub fn new(profile: Arc<Profile>, role: Role, seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mean = profile.stay_s / role.pace;
        let stay = exponential(&mut rng, mean).max(mean * SHORTEST_STAY);
        let next_at = Duration::from_secs_f64(exponential(&mut rng, 1.0 / profile.actions_per_s));
        let place = Place::Zone(role.zones[0].to_string());
        Self {
            leave_at: (!profile.stubborn).then(|| Duration::from_secs_f64(stay)),
            zones: role.zones,
            partners: role.partners,
            leader: role.leader,
            pace: role.pace,
            profile,
            rng,
            next_at,
            place,
            fighting: false,
        }
    }

    /// When the next action is intended.
    #[must_use]
    pub const fn next_at(&self) -> At {
        self.next_at
    }

    /// When the session is to end by itself; `None`: never.
    #[must_use]
    pub const fn leave_at(&self) -> Option<At> {
        self.leave_at
    }

    /// The world said where the player is.
    pub fn entered(&mut self, zone: &str, instance: &str, now: At) {
        self.fighting = false;
        self.place = if instance.is_empty() {
            Place::Zone(zone.to_owned())
        } else {
            let mean = self.profile.party.as_ref().map_or(10.0, |party| party.stay_s) / self.pace;
            Place::Instance { leave_at: now + Duration::from_secs_f64(mean * self.rng.random_range(0.5..1.5)) }
        };
    }

    /// The next action, intended for [`Self::next_at`]; plans the one after it.
    pub fn act(&mut self) -> Kind {
        let at = self.next_at;
        let gap = exponential(&mut self.rng, 1.0 / self.profile.actions_per_s);
        self.next_at = at + Duration::from_secs_f64(gap);
        match &self.place {
            Place::Instance { leave_at } if *leave_at <= at => self.leave_instance(),
            Place::Instance { .. } | Place::Zone(_) => self.choose(),
        }
    }

    fn leave_instance(&mut self) -> Kind {
        if self.fighting {
            // The world lets nobody walk out of a fight.
            self.fighting = false;
            return Kind::Fight(Fight { on: false });
        }
        Kind::Leave(LeaveInstance {})
    }

    /// Draws an action by weight; one that makes no sense where the player is becomes an echo.
    fn choose(&mut self) -> Kind {
        let weights = self.profile.weights.as_array();
        let mut draw = self.rng.random_range(0.0..weights.iter().sum());
        let mut chosen = 0;
        for (index, weight) in weights.iter().enumerate() {
            chosen = index;
            if draw < *weight {
                break;
            }
            draw -= weight;
        }
        let in_instance = matches!(self.place, Place::Instance { .. });
        match chosen {
            1 => Kind::Chat(Chat { text: format!("word {}", self.rng.random_range(0..1_000_000)) }),
            2 if !in_instance && !self.partners.is_empty() => {
                let to = self.partners[self.rng.random_range(0..self.partners.len())].clone();
                Kind::Give(Give { to, gold: self.rng.random_range(1..=MOST_GIVEN) })
            }
            3 if !in_instance => self.travel(),
            4 if !in_instance && self.leader => self.enter(),
            5 => Kind::Die(Die {}),
            6 if in_instance => {
                self.fighting = !self.fighting;
                Kind::Fight(Fight { on: self.fighting })
            }
            7 => Kind::Item(SpendItem { sell: self.rng.random_bool(0.5) }),
            _ => Kind::Ping(Ping { payload: self.rng.random::<u64>().to_be_bytes().to_vec() }),
        }
    }

    fn travel(&mut self) -> Kind {
        let here = match &self.place {
            Place::Zone(zone) => zone.as_str(),
            Place::Instance { .. } => "",
        };
        let others: Vec<&ZoneId> = self.zones.iter().filter(|zone| zone.as_str() != here).collect();
        match others.len() {
            0 => Kind::Ping(Ping::default()),
            n => Kind::GoTo(GoTo { zone: others[self.rng.random_range(0..n)].to_string() }),
        }
    }

    fn enter(&mut self) -> Kind {
        match &self.profile.party {
            Some(party) => Kind::Enter(EnterInstance { kind: party.instance.to_string() }),
            None => Kind::Ping(Ping::default()),
        }
    }
}

/// Draws from an exponential distribution with this mean, at most ten times the mean.
fn exponential(rng: &mut Pcg64Mcg, mean: f64) -> f64 {
    let uniform: f64 = rng.random_range(f64::EPSILON..1.0);
    (-uniform.ln()).min(10.0) * mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile;

    fn role(leader: bool) -> Role {
        let zone = |name: &str| ZoneId::new(name).unwrap();
        Role {
            zones: [zone("harbor"), zone("meadow"), zone("forest")].into(),
            partners: ["a".to_owned(), "b".to_owned()].into(),
            leader,
            pace: 6.0,
        }
    }

    fn life(name: &str, seed: u64, leader: bool) -> Vec<(At, Kind)> {
        let profile = profile::load(None).unwrap().into_iter().find(|p| p.name == name).unwrap();
        let mut behaviour = Behaviour::new(profile, role(leader), seed);
        (0..200).map(|_| (behaviour.next_at(), behaviour.act())).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_life_and_another_seed_another() {
        assert_eq!(life("trader", 7, false), life("trader", 7, false));
        assert_ne!(life("trader", 7, false), life("trader", 8, false));
    }

    #[test]
    fn only_a_leader_takes_its_party_into_an_instance() {
        let enters = |leader| life("dungeon party", 3, leader).iter().any(|(_, k)| matches!(k, Kind::Enter(_)));
        assert!(enters(true) && !enters(false));
    }

    #[test]
    fn a_traveller_never_goes_where_it_is() {
        let profile = profile::load(None).unwrap().into_iter().find(|p| p.name == "zone traveller").unwrap();
        let mut behaviour = Behaviour::new(profile, role(false), 1);
        let mut here = "harbor".to_owned();
        for _ in 0..500 {
            if let Kind::GoTo(go) = behaviour.act() {
                assert_ne!(go.zone, here);
                behaviour.entered(&go.zone, "", behaviour.next_at());
                here = go.zone;
            }
        }
    }

    #[test]
    fn whoever_is_in_an_instance_leaves_it() {
        let profile = profile::load(None).unwrap().into_iter().find(|p| p.name == "raider").unwrap();
        let mut behaviour = Behaviour::new(profile, role(true), 5);
        behaviour.entered("raid", "party-1", Duration::ZERO);
        let left = (0..1_000).any(|_| matches!(behaviour.act(), Kind::Leave(_)));
        assert!(left);
    }

    #[test]
    fn a_stubborn_player_never_leaves_by_itself() {
        let profiles = profile::load(None).unwrap();
        let leaves = |name: &str| {
            let profile = profiles.iter().find(|p| p.name == name).unwrap().clone();
            Behaviour::new(profile, role(false), 1).leave_at()
        };
        assert!(leaves("afk fisher").is_none() && leaves("newcomer").is_some());
    }
}
