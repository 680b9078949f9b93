//! One session as a task: log in, do what the behaviour says, write everything into the ledger, log out.

mod login;
mod playing;
mod witness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tidegate_player::{ClientConfig, PlayerEndpoint};
use tidegate_ticket::LoginKey;
use tidegate_types::{EnvironmentId, PartyId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::behaviour::{Behaviour, Role};
use crate::books::Books;
use crate::config::Config;
use crate::roster::Person;
use playing::Playing;

/// What all sessions of a simulation share.
pub(crate) struct World {
    pub(crate) config: Config,
    /// One for each gateway that a player may begin with.
    pub(crate) clients: Vec<Arc<ClientConfig>>,
    pub(crate) login_key: LoginKey,
    pub(crate) books: Books,
    pub(crate) begin: Instant,
    pub(crate) partners: Arc<[String]>,
    /// Everybody shall come to rest …
    pub(crate) finish: CancellationToken,
    /// … how many have …
    pub(crate) resting: AtomicUsize,
    /// … and now all ask for their last word and log out.
    pub(crate) last_words: CancellationToken,
}

impl World {
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// How this person connects: players begin with different gateways, so that all are used.
    pub(crate) fn client(&self, person: &Person) -> &Arc<ClientConfig> {
        &self.clients[person.index % self.clients.len()]
    }
}

/// What the members of a party know of each other.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) id: PartyId,
    /// How often the leader has taken it through an instance's door.
    entries: AtomicU64,
}

impl Party {
    pub(crate) const fn new(id: PartyId) -> Self {
        Self { id, entries: AtomicU64::new(0) }
    }
}

/// What the simulation's conductor and one session share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leash {
    /// The player shall log out.
    pub(crate) leave: CancellationToken,
    environment: Arc<Mutex<Option<EnvironmentId>>>,
}

impl Leash {
    /// Where the player is; `None`: not in play.
    pub(crate) fn environment(&self) -> Option<EnvironmentId> {
        self.environment.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_environment(&self, environment: Option<EnvironmentId>) {
        *self.environment.lock().unwrap_or_else(PoisonError::into_inner) = environment;
    }
}

/// Plays one session; gives the character back.
pub(crate) async fn play(
    world: Arc<World>,
    endpoint: PlayerEndpoint,
    mut person: Person,
    intended: Instant,
    leash: Leash,
) -> Person {
    world.books.open().live.connecting += 1;
    let entered = login::log_in(&world, &endpoint, &person, intended).await;
    world.books.open().live.connecting -= 1;
    let Some((session, events, welcome)) = entered else { return person };
    let role = Role {
        zones: world.config.zones.clone().into(),
        partners: world.partners.clone(),
        leader: person.leader,
        pace: world.config.pace,
    };
    let behaviour = Behaviour::new(person.profile.clone(), role, person.next_seed());
    let mut playing = Playing::new(&world, &mut person, behaviour, session, &welcome, leash);
    playing.run(events).await;
    person
}
