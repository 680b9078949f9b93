//! What comes in from players, world servers and the manager, turned into the cores' inputs.

use gateway_core::{ConnKey, Core, Downstream, EmbeddedDirectory, Input, ServerKey, Upstream};
use tidegate_link::Event;
use tidegate_proto::frame::{self, MAX_GAME_BODY, player};
use tidegate_proto::v1::{self, gateway_to_world};
use tidegate_proto::{CloseCode, convert::BadField};
use tidegate_types::RealmId;

use super::{Directive, Realm, Shard};
use crate::convert::{self, FromLink};
use crate::links::{LinkEvent, LinkId};
use crate::players::{Checked, HelloRefused, RETRY_MS};
use crate::session_stream::ClientFrame;

impl Shard {
    pub(super) fn player_frame(&mut self, conn: u32, frame: ClientFrame) {
        match frame {
            ClientFrame::Game(body) => {
                let Some((realm, session)) = self.players.session(conn) else {
                    // Nothing may be played before `Welcome`.
                    return self.edge.violate(conn, CloseCode::BadFrame);
                };
                match self.realms[realm as usize].core.upstream(self.now, session, &body) {
                    Upstream::Forward { server, handle, pause } => {
                        if pause {
                            self.edge.pause_reading(conn);
                        }
                        if let Some(sender) = self.links.sender(realm, server.0) {
                            let sent = sender.game(handle, &body);
                            if sent.is_err() {
                                self.check_sent(realm, server.0, sent);
                            }
                        }
                    }
                    Upstream::Queued | Upstream::Ignore => (),
                    Upstream::QueuedPause => self.edge.pause_reading(conn),
                    Upstream::Violation => self.edge.violate(conn, CloseCode::BadFrame),
                }
            }
            ClientFrame::Ack(received) => {
                if let Some((realm, session)) = self.players.session(conn) {
                    self.realms[realm as usize].core.player_ack(session, received);
                }
            }
            ClientFrame::Hello(hello) => self.hello(conn, *hello),
            ClientFrame::Goodbye => {
                if let Some(realm) = self.players.realm(conn) {
                    self.input(realm, Input::Logout { conn: ConnKey(conn) });
                }
            }
        }
    }

    fn hello(&mut self, conn: u32, hello: v1::Hello) {
        let known = hello.realm.parse::<RealmId>().ok().and_then(|id| self.find_realm(&id));
        let outcome = match known {
            Some(realm) => {
                let id = &self.realms[realm as usize].id;
                self.players.check(hello, id, self.now.wall).map(|checked| (realm, checked))
            }
            None => Err(HelloRefused::Say {
                reason: "no_environment",
                message: "this realm is not served here".into(),
                retry_after_ms: RETRY_MS,
            }),
        };
        let outcome = outcome.and_then(|(realm, checked)| match checked {
            Checked::Login(login) => self.take_ticket(conn, realm, login),
            Checked::Resume(hello) => {
                self.players.enter(conn, realm);
                self.input(realm, Input::Hello { conn: ConnKey(conn), hello });
                Ok(())
            }
        });
        if let Err(refused) = outcome {
            self.refuse_hello(conn, refused);
        }
    }

    /// Says no to a `Hello`, before any core knows of it.
    pub(super) fn refuse_hello(&mut self, conn: u32, refused: HelloRefused) {
        match refused {
            HelloRefused::Say { reason, message, retry_after_ms } => {
                tracing::debug!(conn, reason, message, "hello refused");
                tidegate_events::event!("login_refused", code = reason);
                let refused = v1::Refused { reason: reason.to_owned(), message, retry_after_ms };
                self.edge.send(conn, |out| frame::put_message(out, player::REFUSED, &refused));
                self.edge.close_after_flush(conn, CloseCode::Refused);
            }
            HelloRefused::Malformed => self.edge.violate(conn, CloseCode::BadMessage),
        }
    }

    pub(super) fn connection_lost(&mut self, conn: u32) {
        // Whoever was not let in yet may come again with the same ticket.
        self.give_ticket_back(conn);
        if let Some(realm) = self.players.leave(conn) {
            self.input(realm, Input::ConnectionLost { conn: ConnKey(conn) });
        }
    }

    pub(super) fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Batch { link, events } => {
                for event in events {
                    // A message of the batch may lead to a hang-up; what follows it is then nobody's.
                    if !self.links.is_current(link) {
                        return;
                    }
                    if let Err(bad) = self.world_event(link, event) {
                        tracing::warn!(realm = %self.realms[link.realm as usize].id, server = link.server, %bad,
                            "a world server sent what it may not");
                        if let Some(sender) = self.links.sender(link.realm, link.server) {
                            sender.close(CloseCode::BadMessage, &bad.to_string());
                        }
                        return;
                    }
                }
            }
            LinkEvent::Up { link, sender, instance } => {
                if self.links.opened(link, sender) {
                    tracing::info!(realm = %self.realms[link.realm as usize].id, server = link.server, %instance, "link up");
                    self.input(link.realm, Input::LinkUp { server: ServerKey(link.server), instance });
                }
            }
            LinkEvent::Down { link } => {
                if self.links.closed(link) {
                    tracing::info!(realm = %self.realms[link.realm as usize].id, server = link.server, "link down");
                    self.input(link.realm, Input::LinkDown { server: ServerKey(link.server) });
                }
            }
        }
    }

    fn world_event(&mut self, link: LinkId, event: Event<v1::WorldToGateway>) -> Result<(), BadField> {
        let server = ServerKey(link.server);
        match event {
            Event::Game { handle, body } if body.len() > MAX_GAME_BODY => {
                // No client would take it, and closing the link for it would hurt everybody else.
                tracing::warn!(realm = %self.realms[link.realm as usize].id, server = link.server, handle,
                    bytes = body.len(), limit = MAX_GAME_BODY, "a world server's frame is too long; dropped");
            }
            Event::Game { handle, body } => {
                match self.realms[link.realm as usize].core.downstream(self.now, server, handle, &body) {
                    Downstream::Deliver { conn } => self.edge.send(conn.0, |out| frame::put(out, player::GAME, &body)),
                    Downstream::Kept | Downstream::Unknown => (),
                }
            }
            Event::Datagram { handle, payload } => {
                if let Some(conn) = self.realms[link.realm as usize].core.downstream_datagram(server, handle) {
                    self.edge.datagram(conn.0, payload);
                }
            }
            Event::Control { stream: _, message } => match convert::from_link(message)? {
                FromLink::Heartbeat { sequence } => {
                    let ack = v1::HeartbeatAck { sequence };
                    let message = v1::GatewayToWorld { message: Some(gateway_to_world::Message::HeartbeatAck(ack)) };
                    if let Some(sender) = self.links.sender(link.realm, link.server) {
                        // Stream 0 is the heartbeat's.
                        let sent = sender.control(0, message);
                        self.check_sent(link.realm, link.server, sent);
                    }
                    self.input(link.realm, Input::HeartbeatAnswered { server });
                }
                FromLink::Resident(resident) => self.input(link.realm, Input::Resident { server, resident }),
                FromLink::Received(received) => self.world_received(link, &received),
                FromLink::RosterEnd => self.input(link.realm, Input::RosterEnd { server }),
                FromLink::World(message) => self.input(link.realm, Input::World { server, message }),
            },
        }
        Ok(())
    }

    pub(super) fn directive(&mut self, directive: Directive) {
        match directive {
            Directive::Table(table) => {
                let realm = match self.find_realm(table.realm()) {
                    Some(realm) => realm,
                    None if self.realms.len() >= self.max_realms => {
                        tracing::warn!(realm = %table.realm(), limit = self.max_realms, "too many realms; table ignored");
                        return;
                    }
                    None => {
                        let id = table.realm().clone();
                        let core = Core::new(id.clone(), self.core_config.clone());
                        self.realms.push(Realm { id, core, directory: EmbeddedDirectory::default() });
                        self.realms.len() as u32 - 1
                    }
                };
                self.input(realm, Input::Table(table));
            }
            Directive::Gateways(addresses) => self.gateways = addresses,
            Directive::Command(id, command) => match self.find_realm(&id) {
                Some(realm) => self.input(realm, Input::Command(command)),
                None => self.refuse_command(command),
            },
            Directive::ServerDead { server, instance } => {
                // The manager does not say of which realm: server ids are unique across them.
                for realm in 0..self.realms.len() as u32 {
                    self.input(realm, Input::ServerDead { server: server.clone(), instance });
                }
            }
        }
    }

    /// A command for a realm that is not served here concerns sessions that are not here.
    fn refuse_command(&mut self, command: gateway_core::SessionCommand) {
        for session in command.sessions {
            let outcome = gateway_core::CommandOutcome::UnknownSession;
            let message = "the realm is not served here".to_owned();
            let result = convert::command_result(command.id.clone(), session, outcome, message);
            self.reporter.tell(crate::reports::Report::CommandResult(result));
        }
    }

    /// A handful of realms: a scan is as quick as a map.
    fn find_realm(&self, id: &RealmId) -> Option<u32> {
        self.realms.iter().position(|realm| realm.id == *id).map(|index| index as u32)
    }
}
