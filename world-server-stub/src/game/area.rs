//! Areas: the shared zones and the private instances of one server, who is in them, and what a snapshot carries of them.

use std::collections::HashMap;

use prost::Message;
use tidegate_proto::stub::v1::ZoneState;

/// The format of a zone's state, for the snapshot that carries it.
pub const ZONE_FORMAT: u32 = 1;

/// Banners kept in a zone; the oldest makes room.
const BANNERS: usize = 16;

/// A place in the world: a shared zone, or one private instance of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The shared zone's id, or the instance's kind.
    pub zone: String,
    /// Names the instance; `None`: a shared zone.
    pub instance: Option<String>,
}

impl Place {
    /// A shared zone.
    #[must_use]
    pub fn shared(zone: &str) -> Self {
        Self { zone: zone.to_owned(), instance: None }
    }

    /// The instance of `kind` that `key` names.
    #[must_use]
    pub fn instance(kind: &str, key: &str) -> Self {
        Self { zone: kind.to_owned(), instance: Some(key.to_owned()) }
    }

    /// "shared", or the instance's kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        if self.instance.is_some() { &self.zone } else { "shared" }
    }
}

/// Who is where, as seats.
#[derive(Debug, Default)]
pub(super) struct Area {
    members: Vec<u32>,
    visits: u64,
    chat_lines: u64,
    banners: Vec<String>,
    changed: bool,
}

/// All areas of a server.
#[derive(Debug, Default)]
pub(super) struct Areas {
    areas: HashMap<Place, Area>,
}

impl Area {
    pub(super) fn members(&self) -> &[u32] {
        &self.members
    }

    pub(super) fn chatted(&mut self) {
        self.chat_lines += 1;
        self.changed = true;
    }

    pub(super) fn hang_banner(&mut self, text: &str) {
        if self.banners.len() == BANNERS {
            self.banners.remove(0);
        }
        self.banners.push(text.to_owned());
        self.changed = true;
    }

    fn state(&self, zone: &str) -> Vec<u8> {
        ZoneState {
            zone: zone.to_owned(),
            visits: self.visits,
            chat_lines: self.chat_lines,
            banners: self.banners.clone(),
        }
        .encode_to_vec()
    }
}

impl Areas {
    /// The shared zones exist from the start; instances come with their first visitor and go with the last.
    pub(super) fn new<'a>(zones: impl Iterator<Item = &'a String>) -> Self {
        Self { areas: zones.map(|zone| (Place::shared(zone), Area::default())).collect() }
    }

    pub(super) fn get(&self, place: &Place) -> Option<&Area> {
        self.areas.get(place)
    }

    pub(super) fn get_mut(&mut self, place: &Place) -> Option<&mut Area> {
        self.areas.get_mut(place)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Area> {
        self.areas.values()
    }

    pub(super) fn enter(&mut self, place: &Place, seat: u32) {
        let area = self.areas.entry(place.clone()).or_default();
        area.members.push(seat);
        area.visits += 1;
        area.changed = true;
    }

    pub(super) fn leave(&mut self, place: &Place, seat: u32) {
        let Some(area) = self.areas.get_mut(place) else { return };
        // A scan: an area has some hundred members, and players leave seldom compared with what they do.
        if let Some(at) = area.members.iter().position(|member| *member == seat) {
            area.members.swap_remove(at);
        }
        if area.members.is_empty() && place.instance.is_some() {
            self.areas.remove(place);
        }
    }

    /// The shared zones' states, in the order of their names.
    pub(super) fn states(&self) -> Vec<(String, Vec<u8>)> {
        let mut states: Vec<_> = self
            .areas
            .iter()
            .filter(|(place, _)| place.instance.is_none())
            .map(|(place, area)| (place.zone.clone(), area.state(&place.zone)))
            .collect();
        states.sort();
        states
    }

    /// The shared zones that changed since they were last asked for, with their states.
    pub(super) fn take_changed(&mut self) -> Vec<(String, Vec<u8>)> {
        self.areas
            .iter_mut()
            .filter(|(place, area)| place.instance.is_none() && area.changed)
            .map(|(place, area)| {
                area.changed = false;
                (place.zone.clone(), area.state(&place.zone))
            })
            .collect()
    }

    /// Replaces a shared zone's state; zones of other servers are not ours to load and are passed over.
    pub(super) fn load(&mut self, bytes: &[u8]) -> Result<(), prost::DecodeError> {
        let state = ZoneState::decode(bytes)?;
        if let Some(area) = self.areas.get_mut(&Place::shared(&state.zone)) {
            area.visits = state.visits;
            area.chat_lines = state.chat_lines;
            area.banners = state.banners;
            area.banners.truncate(BANNERS);
            area.changed = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_lives_as_long_as_somebody_is_in_it() {
        let mut areas = Areas::new(["harbor".to_owned()].iter());
        let dungeon = Place::instance("dungeon", "reds");
        areas.enter(&dungeon, 1);
        areas.enter(&dungeon, 2);
        areas.leave(&dungeon, 1);
        assert_eq!(areas.get(&dungeon).unwrap().members(), [2]);
        areas.leave(&dungeon, 2);
        assert!(areas.get(&dungeon).is_none());
        assert!(areas.get(&Place::shared("harbor")).is_some());
    }

    #[test]
    fn a_zone_survives_a_snapshot() {
        let mut areas = Areas::new(["harbor".to_owned()].iter());
        let harbor = Place::shared("harbor");
        areas.enter(&harbor, 7);
        for n in 0..20 {
            areas.get_mut(&harbor).unwrap().hang_banner(&format!("banner {n}"));
        }
        areas.get_mut(&harbor).unwrap().chatted();
        let states = areas.states();
        let mut other = Areas::new(["harbor".to_owned()].iter());
        other.load(&states[0].1).unwrap();
        assert_eq!(other.states(), states);
        assert_eq!(other.take_changed(), states);
        assert_eq!(other.take_changed(), []);
        assert!(other.load(b"\xff\xff\xff").is_err());
        assert_eq!(ZoneState::decode(&*states[0].1).unwrap().banners.len(), BANNERS);
    }
}
