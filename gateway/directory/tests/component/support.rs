//! One gateway's view of a directory, and short ways to say who and where.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use gateway_core::Who;
use gateway_core::directory::{DirectoryOp, DirectoryOutcome, DirectoryRequest, Entry, Home};
use tidegate_directory::{
    DirectoryConfig, DirectoryEvent, DirectoryHandle, DirectoryUrl, SharedUrl, TicketOutcome, start,
};
use tidegate_types::{
    CharacterId, EnvironmentId, Epoch, GatewayId, InstanceId, PlayerId, RealmId, ServerId, SessionId, Timestamp,
};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;
use uuid::Uuid;

/// How long a test waits for something that should come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Gateway {
    pub(crate) handle: DirectoryHandle,
    pub(crate) realm: RealmId,
    events: UnboundedReceiver<DirectoryEvent>,
    outcomes: HashMap<u64, DirectoryOutcome>,
    tickets: HashMap<u64, TicketOutcome>,
    /// `Ok(wiped)` for up, `Err(why)` for down.
    notices: VecDeque<Result<bool, String>>,
    next: u64,
}

impl Gateway {
    /// Starts, and does not wait for the directory.
    pub(crate) fn start(url: &str, config: DirectoryConfig) -> Self {
        let (handle, events) = start(&shared(url), config).unwrap();
        let realm = RealmId::new("eu-1").unwrap();
        let (outcomes, tickets) = (HashMap::new(), HashMap::new());
        Self { handle, realm, events, outcomes, tickets, notices: VecDeque::new(), next: 0 }
    }

    /// Starts, and waits until the directory is up.
    pub(crate) async fn join(url: &str) -> Self {
        let mut gateway = Self::start(url, DirectoryConfig::default());
        gateway.up().await;
        gateway
    }

    /// Waits for the next `Up`; gives whether the directory was wiped.
    pub(crate) async fn up(&mut self) -> bool {
        loop {
            if let Ok(wiped) = self.notice().await {
                return wiped;
            }
        }
    }

    /// Waits for an `Up` that says that the directory was wiped.
    pub(crate) async fn wiped(&mut self) {
        while !self.up().await {}
    }

    /// Waits for the next `Down`; gives why.
    pub(crate) async fn down(&mut self) -> String {
        loop {
            if let Err(why) = self.notice().await {
                return why;
            }
        }
    }

    async fn notice(&mut self) -> Result<bool, String> {
        while self.notices.is_empty() {
            self.take().await;
        }
        self.notices.pop_front().unwrap()
    }

    /// Asks and does not wait; gives what to wait for.
    pub(crate) fn send(&mut self, character: &str, op: DirectoryOp) -> u64 {
        let id = self.number();
        self.handle.ask(&self.realm, 77, DirectoryRequest { id, who: who(character), op });
        id
    }

    pub(crate) async fn ask(&mut self, character: &str, op: DirectoryOp) -> DirectoryOutcome {
        let id = self.send(character, op);
        self.outcome(id).await
    }

    pub(crate) async fn outcome(&mut self, id: u64) -> DirectoryOutcome {
        while !self.outcomes.contains_key(&id) {
            self.take().await;
        }
        self.outcomes.remove(&id).unwrap()
    }

    /// Asks until the directory answers.
    pub(crate) async fn insist(&mut self, character: &str, op: DirectoryOp) -> DirectoryOutcome {
        loop {
            match self.ask(character, op.clone()).await {
                DirectoryOutcome::Unavailable => tokio::time::sleep(Duration::from_millis(20)).await,
                outcome => return outcome,
            }
        }
    }

    pub(crate) async fn take_ticket(&mut self, id: Uuid, expires: Timestamp) -> TicketOutcome {
        let token = self.number();
        self.handle.take_ticket(token, &self.realm, id, expires, Timestamp(0));
        while !self.tickets.contains_key(&token) {
            self.take().await;
        }
        self.tickets.remove(&token).unwrap()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    async fn take(&mut self) {
        let event = timeout(PATIENCE, self.events.recv())
            .await
            .unwrap_or_else(|_| panic!("the directory says nothing: {:?}", self.handle.figures()))
            .unwrap();
        match event {
            DirectoryEvent::Answer { tag, answer } => {
                assert_eq!(tag, 77, "the tag comes back");
                assert!(self.outcomes.insert(answer.id, answer.outcome).is_none(), "one answer a request");
            }
            DirectoryEvent::Ticket { token, outcome } => {
                assert!(self.tickets.insert(token, outcome).is_none(), "one answer a ticket");
            }
            DirectoryEvent::Up { wiped } => self.notices.push_back(Ok(wiped)),
            DirectoryEvent::Down { why } => self.notices.push_back(Err(why)),
        }
    }
}

pub(crate) fn shared(url: &str) -> SharedUrl {
    DirectoryUrl::parse(url).unwrap().shared().unwrap().clone()
}

pub(crate) fn who(character: &str) -> Who {
    Who { player: PlayerId::new("p/{1}").unwrap(), character: CharacterId::new(character).unwrap() }
}

/// The key of `who(character)` in the realm `eu-1`.
pub(crate) fn key(character: &str) -> String {
    format!("tidegate:{{eu-1/p%2F%7B1%7D/{character}}}")
}

pub(crate) fn home(n: u128) -> Home {
    Home {
        session: SessionId(Uuid::from_u128(n)),
        server: ServerId::new(&format!("s{n}")).unwrap(),
        instance: InstanceId(Uuid::from_u128(n + 1_000)),
        environment: EnvironmentId::new("blue").unwrap(),
        gateway: GatewayId::new(&format!("gw-{n}")).unwrap(),
    }
}

pub(crate) fn cas(expected: u64, to: u64, n: u128) -> DirectoryOp {
    DirectoryOp::CompareAndSet { expected: Epoch(expected), to: Epoch(to), home: home(n) }
}

pub(crate) fn raise(epoch: u64, n: u128) -> DirectoryOp {
    DirectoryOp::Raise { epoch: Epoch(epoch), home: home(n) }
}

pub(crate) fn clear(epoch: u64, n: u128) -> DirectoryOp {
    DirectoryOp::Clear { epoch: Epoch(epoch), session: home(n).session }
}

pub(crate) fn done(epoch: u64) -> DirectoryOutcome {
    DirectoryOutcome::Done(Epoch(epoch))
}

pub(crate) fn found(epoch: u64, n: Option<u128>) -> DirectoryOutcome {
    DirectoryOutcome::Found(Entry { epoch: Epoch(epoch), home: n.map(home) })
}

pub(crate) fn conflict(epoch: u64, n: Option<u128>) -> DirectoryOutcome {
    DirectoryOutcome::Conflict(Entry { epoch: Epoch(epoch), home: n.map(home) })
}
