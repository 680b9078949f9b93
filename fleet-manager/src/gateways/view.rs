//! What others see of the gateways: realms, operators, and (where players find them) the gateways themselves.

use tidegate_proto::v1;
use tidegate_types::{GatewayId, RealmId};

use super::{Gateway, Gateways, LISTED, Observation, State, shown};

impl Gateways {
    /// The live gateways that have not acknowledged this generation or a later one.
    #[must_use]
    pub fn missing(&self, realm: &RealmId, generation: u64) -> Vec<GatewayId> {
        let state = self.lock();
        let live = state.gateways.iter().filter(|(_, g)| g.is_live(self.live_for));
        live.filter(|(_, g)| g.acked.get(realm).copied().unwrap_or(0) < generation).map(|(id, _)| id.clone()).collect()
    }

    /// Every gateway that is known and not given up, as a realm sees it.
    #[must_use]
    pub fn observe(&self, realm: &RealmId) -> Vec<Observation> {
        let unknown = self.sessions.unknown();
        let state = self.lock();
        let observations = state.gateways.iter().map(|(id, g)| Observation {
            id: id.clone(),
            connected: g.stream.is_some(),
            // One that has just started serves no table before it knows who is where; its list is of no one until then.
            complete: g.stream.is_some()
                && !unknown.contains(id)
                && (g.acked.contains_key(realm) || !state.tables.contains_key(realm)),
            generation: g.acked.get(realm).copied().unwrap_or(0),
        });
        observations.collect()
    }

    /// The gateways that are gone without having acknowledged this generation: a flip does not wait for them.
    #[must_use]
    pub fn given_up_on(&self, realm: &RealmId, generation: u64) -> Vec<GatewayId> {
        let state = self.lock();
        let gone = state.gateways.iter().filter(|(_, g)| !g.is_live(self.live_for) && !g.left);
        gone.filter(|(_, g)| g.acked.get(realm).copied().unwrap_or(0) < generation).map(|(id, _)| id.clone()).collect()
    }

    /// Every gateway, for people.
    #[must_use]
    pub fn list(&self) -> Vec<v1::Gateway> {
        let state = self.lock();
        let gateways = state.gateways.iter().map(|(id, g)| {
            let tables = g
                .acked
                .iter()
                .map(|(realm, generation)| v1::KnownTable { realm: realm.to_string(), generation: *generation });
            let mut tables: Vec<_> = tables.collect();
            tables.sort_by(|a, b| a.realm.cmp(&b.realm));
            let hello = g.hello.as_ref();
            let orphans = self.sessions.of_gateway(id).1;
            v1::Gateway {
                instance: hello.map(|h| h.instance.to_vec()).unwrap_or_default(),
                directory: shown(&g.directory),
                directory_state: g.load.directory,
                stopping: g.load.stopping,
                started_ms: hello.map_or(0, |h| h.started.0),
                live: g.is_live(self.live_for),
                orphans: u32::try_from(orphans).unwrap_or(u32::MAX),
                id: id.to_string(),
                player_address: hello.map(|h| h.player_address.clone()).unwrap_or_default(),
                version: hello.map(|h| h.version.clone()).unwrap_or_default(),
                connected: g.stream.is_some(),
                since_ms: g.since.0,
                tables,
                sessions: g.load.sessions,
                detached: g.load.detached,
                holding: g.load.holding,
                handovers_completed: g.load.handovers_completed,
                handovers_kept_in_place: g.load.handovers_kept_in_place,
            }
        });
        gateways.collect()
    }

    /// Tells every gateway where all of them are, if that has changed; true if it has. Players are sent to those that can
    /// take them: not to one that stops or has been away for a moment.
    pub(super) fn list_gateways(&self, state: &mut State) -> bool {
        let serves =
            |g: &Gateway| !g.left && !g.load.stopping && (g.stream.is_some() || g.last_seen.elapsed() < LISTED);
        let unheard = |g: &Gateway| g.hello.is_none() && g.last_seen.elapsed() < LISTED;
        if state.gateways.values().any(unheard) {
            // Just restarted: they are on their way back, and a player told of one only could not fail over.
            return false;
        }
        let serving = state.gateways.values().filter(|g| serves(g));
        let addresses =
            serving.filter_map(|g| Some(g.hello.as_ref()?.player_address.clone()).filter(|a| !a.is_empty()));
        let mut listed: Vec<String> = Vec::new();
        for address in addresses {
            if !listed.contains(&address) {
                listed.push(address);
            }
        }
        let changed = state.listed != listed;
        if changed {
            state.listed.clone_from(&listed);
            let list = v1::GatewayList { player_addresses: listed };
            state.send_all(&v1::gateway_directive::Message::Gateways(list));
        }
        changed
    }
}
