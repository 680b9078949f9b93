//! Single players by the real SDK, for what a crowd cannot show: two logins of one character.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tidegate_player::{Client, ClientConfig, ConnectError, Event, Events, Roots, Session};
use tidegate_proto::stub::v1::{Action, Ping, action::Kind};
use tidegate_ticket::{LoginClaims, LoginKey};
use tidegate_types::{CharacterId, PlayerId, RealmId};
use tokio::runtime::Runtime;

use crate::cluster::{Cluster, Gateway};
use crate::crowd::now;
use crate::wait::PATIENCE;

/// Everybody who comes by themselves.
pub struct Visitors {
    runtime: Runtime,
    roots: Roots,
    key: LoginKey,
    realm: RealmId,
}

/// One of them, in play.
pub struct Visitor<'a> {
    visitors: &'a Visitors,
    session: Session,
    events: Events,
    said: u64,
}

impl Visitors {
    /// Visitors of a realm.
    ///
    /// # Panics
    /// When the cluster has no keys.
    #[must_use]
    pub fn new(cluster: &Cluster, realm: &str) -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            roots: Roots::PemFile(cluster.data_dir().join("pki/ca.pem")),
            key: LoginKey::load(&cluster.data_dir().join("tickets/login.key")).expect("the development key"),
            realm: RealmId::new(realm).expect("a realm id"),
        }
    }

    /// Logs in by this gateway, and waits until the character is in play.
    ///
    /// # Panics
    /// When it is not let in.
    #[must_use]
    pub fn enter(&self, gateway: &Gateway, character: &str) -> Visitor<'_> {
        let (session, events) = self.connect(gateway, character).expect("it is let in");
        let mut visitor = Visitor { visitors: self, session, events, said: 0 };
        visitor.hears("its welcome", |event| matches!(event, Event::Welcome(_)));
        visitor
    }

    /// Tries to log in, which must be refused because the character is in play.
    ///
    /// # Panics
    /// When it is not.
    pub fn is_refused(&self, gateway: &Gateway, character: &str) {
        let refused = match self.connect(gateway, character) {
            Err(refused) => format!("{refused:?}"),
            // It may have to ask the world server first, and say so later.
            Ok((session, events)) => {
                let mut visitor = Visitor { visitors: self, session, events, said: 0 };
                let closed =
                    visitor.hears("its refusal", |event| matches!(event, Event::Closed(_) | Event::Welcome(_)));
                format!("{closed:?}")
            }
        };
        let word = refused.to_lowercase().replace(['_', ' '], "");
        assert!(word.contains("playeronline") || word.contains("alreadyonline"), "{refused}");
    }

    fn connect(&self, gateway: &Gateway, character: &str) -> Result<(Session, Events), ConnectError> {
        let mut config = ClientConfig::new(vec![gateway.address], "localhost", self.realm.clone(), "2.0.0");
        config.learn_gateways = false;
        let issued = now();
        let ticket = self.key.mint(&LoginClaims {
            id: uuid::Uuid::new_v4(),
            realm: self.realm.clone(),
            player: PlayerId::new(character).expect("a plain word"),
            character: CharacterId::new(character).expect("a plain word"),
            party: None,
            client_version: "2.0.0".to_owned(),
            issued,
            expires: issued + Duration::from_secs(60),
            cohorts: Vec::new(),
        });
        self.runtime.block_on(Client::connect(&self.roots, config, ticket))
    }
}

impl Visitor<'_> {
    /// Waits for an event.
    ///
    /// # Panics
    /// When the session ends before.
    pub fn hears(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> Event {
        let events = &mut self.events;
        let heard = async {
            loop {
                match events.next().await {
                    Some(event) if is_it(&event) => return event,
                    Some(Event::Closed(closed)) => panic!("waited for {what}, and was closed: {closed:?}"),
                    Some(_) => {}
                    None => panic!("waited for {what}, and there was nothing more"),
                }
            }
        };
        let timed = self.visitors.runtime.block_on(async { tokio::time::timeout(PATIENCE, heard).await });
        timed.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain for {what}"))
    }

    /// Waits until somebody else has taken the session over.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub fn is_replaced(&mut self) {
        let closed = self.hears("its end", |event| matches!(event, Event::Closed(_)));
        assert!(format!("{closed:?}").to_lowercase().contains("replaced"), "{closed:?}");
    }

    /// Says something to the world and waits for any answer.
    pub fn is_answered(&mut self) {
        self.said += 1;
        let ping = Action { sequence: self.said, kind: Some(Kind::Ping(Ping::default())), ..Action::default() };
        let frame = Bytes::from(ping.encode_to_vec());
        self.visitors.runtime.block_on(async { self.session.send(frame).await.expect("it is in play") });
        self.hears("an answer", |event| matches!(event, Event::Game(_)));
    }

    /// Logs out.
    pub fn leave(self) {
        self.visitors.runtime.block_on(self.session.logout());
    }
}
