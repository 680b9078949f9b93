//! What comes over the links: their beginning and end, leases, and events, each handled when its link's lease and the world's
//! state allow it, in the order of its stream.

use std::time::Duration;

use tidegate_link::Event;
use tidegate_proto::v1::{self, GatewayToWorld, gateway_to_world, world_to_gateway};
use tidegate_types::{InstanceId, SessionId};

use super::engine::Engine;
use super::links::{Arrived, OpenLink, Outgoing};
use crate::convert;
use crate::seats::{Held, LinkKey, Run, Said};
use crate::world::{Refusal, World};

/// What the manager's smoke test calls itself in its `LinkHello`.
const SMOKE_TEST: &str = "manager";

impl<W: World> Engine<W> {
    pub(super) fn arrived(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Up { link, hello } => {
                let gateway = hello.gateway_id.clone();
                let run =
                    InstanceId::from_slice(&hello.gateway_instance).map_or(Run::default(), |run| Run(run.0.as_u128()));
                let orphan_after = Duration::from_millis(u64::from(hello.orphan_ms));
                let orphan_after = (!orphan_after.is_zero()).then_some(orphan_after);
                let now = self.now();
                if let Some(key) = self.links.add(link, hello, now) {
                    tracing::info!(%gateway, link = key.0, "link is up");
                    self.seats.link_up(key, run, orphan_after);
                    let seats = &self.seats;
                    self.links.heartbeats(now, || seats.population().players);
                    self.tell_roster(key);
                }
            }
            Arrived::Events { key, events } => {
                for event in events {
                    self.event(key, event);
                }
            }
            Arrived::Down { key } => self.link_down(key),
        }
    }

    fn tell_roster(&mut self, key: LinkKey) {
        let resident = |held: Held<'_>| convert::resident(&held, self.links.gateway(held.link));
        let residents: Vec<v1::Resident> = self.seats.roster().map(resident).collect();
        let Some(link) = self.links.get_mut(key) else { return };
        for resident in residents {
            let _ = link.say(0, world_to_gateway::Message::Resident(resident));
        }
        let highest_epoch = self.seats.highest_epoch().0;
        let _ = link.say(0, world_to_gateway::Message::RosterEnd(v1::RosterEnd { highest_epoch }));
        self.ask_owners(key);
    }

    /// Asks about players who are frozen or prepared and whose gateway is gone.
    pub(super) fn ask_owners(&mut self, key: LinkKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        for held in self.seats.unresolved() {
            let _ = link.say(0, world_to_gateway::Message::WhoOwns(convert::who_owns(&held)));
        }
    }

    fn link_down(&mut self, key: LinkKey) {
        let Some(link) = self.links.remove(key) else { return };
        tracing::info!(gateway = %link.gateway, link = key.0, "link is down; its players are parked");
        // What never went out is kept with the player's channel. What was never looked at was not counted: the gateway, or
        // the player, sends it again. Requests die with their link: the gateway knows that it lost them.
        if link.gateway == SMOKE_TEST {
            // Its players are probes. The manager that sent them will not come back for them, and no gateway knows them.
            self.decide(|seats, steps| seats.link_abandoned(key, steps));
        } else {
            self.decide(|seats, steps| seats.link_down(key, steps));
        }
    }

    /// Tells the seats where a lease has ended or is valid again. Called before anything that a lease allows.
    pub(super) fn check_leases(&mut self) {
        let now = self.now();
        while let Some((key, lapsed)) = self.links.changed_lease(now) {
            let Some(link) = self.links.get_mut(key) else { return };
            link.lapsed = lapsed;
            if lapsed {
                tracing::warn!(gateway = %link.gateway, "lease is over; its players are parked");
            } else {
                // First what was said before, then what is said from now on.
                link.flush(now);
            }
            self.decide(|seats, steps| seats.lease(key, lapsed, steps));
            if !lapsed {
                self.catch_up(key);
            }
        }
    }

    /// Handles what waited while nothing could be done for the link's players.
    pub(super) fn catch_up(&mut self, key: LinkKey) {
        while self.is_open(key)
            && let Some(event) = self.links.get_mut(key).and_then(OpenLink::next_deferred)
        {
            self.handle(key, event);
        }
    }

    fn is_open(&mut self, key: LinkKey) -> bool {
        let now = self.now();
        let standing_still = self.duties.standing_still();
        !standing_still && self.links.get_mut(key).is_some_and(|link| !link.lapsed && link.lease_is_valid(now))
    }

    fn event(&mut self, key: LinkKey, event: Event<GatewayToWorld>) {
        if let Event::Control { message: GatewayToWorld { message: Some(message) }, .. } = &event {
            if let gateway_to_world::Message::HeartbeatAck(ack) = message {
                if let Some(link) = self.links.get_mut(key) {
                    link.answered(ack.sequence);
                }
                return self.check_leases();
            }
            self.check_leases();
            if let gateway_to_world::Message::Find(find) = message
                && self.links.get_mut(key).is_some_and(|link| !link.lapsed)
            {
                // Nothing has to be done for it, so it need not wait for a world that stands still.
                return self.find(key, find);
            }
            if self.duties.standing_still() && self.refuse_now(key, message) {
                return;
            }
        }
        self.check_leases();
        let waiting = self.links.get_mut(key).is_some_and(|link| !link.deferred.is_empty());
        if waiting || !self.is_open(key) {
            if !matches!(event, Event::Datagram { .. })
                && let Some(link) = self.links.get_mut(key)
            {
                link.defer(event);
            }
        } else {
            self.handle(key, event);
        }
    }

    /// While the world stands still new players and hand-overs are refused at once, so that nobody waits in vain.
    fn refuse_now(&mut self, key: LinkKey, message: &gateway_to_world::Message) -> bool {
        use gateway_to_world::Message;
        let (handle, what) = match message {
            Message::Attach(attach) if !self.is_known(attach) => {
                (attach.handle, Said::AttachRefused(Refusal::NotReady))
            }
            Message::Prepare(prepare) => (prepare.handle, Said::PrepareRefused(Refusal::NotReady)),
            Message::Freeze(freeze) => (freeze.handle, Said::FreezeRefused(Refusal::NotReady)),
            _ => return false,
        };
        self.seats.begins_anew((key, handle));
        self.say((key, handle), what);
        true
    }

    /// Answers whether a character is held.
    pub(super) fn find(&mut self, key: LinkKey, find: &v1::Find) {
        let resident = match convert::find(find) {
            Ok((player, character)) => {
                let held = self.seats.find(&player, &character);
                held.map(|held| convert::resident(&held, self.links.gateway(held.link)))
            }
            Err(bad) => {
                tracing::warn!(field = bad.field, why = %bad.why, "gateway looks for a character that cannot be");
                None
            }
        };
        let found = v1::Found { id: find.id, resident };
        self.emit((key, 0), Outgoing::Control(world_to_gateway::Message::Found(found)));
    }

    /// True for a session that is held here: its `Attach` only binds it again.
    fn is_known(&self, attach: &v1::Attach) -> bool {
        let session = attach.identity.as_ref().and_then(|identity| SessionId::from_slice(&identity.session_id));
        self.seats.roster().any(|held| Some(held.who.session) == session && held.epoch.0 == attach.epoch)
    }
}
