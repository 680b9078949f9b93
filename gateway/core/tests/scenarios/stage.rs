//! A core with its directory; world servers and players are played by the test.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::directory::{DirectoryAnswer, DirectoryOutcome, DirectoryRequest};
use gateway_core::table::{Boundaries, Environment, RealmTable, Rules, Server};
use gateway_core::{
    Action, Channel, ConnKey, Core, CoreConfig, EmbeddedDirectory, FromWorld, Input, Place, PlayerMessage, Refusal,
    ServerKey, SessionKey, StateBlob, ToWorld, VerifiedHello, Who,
};
use tidegate_types::{
    BuildVersion, CharacterId, EnvironmentId, Epoch, Generation, InstanceId, Mono, Now, PlayerId, RealmId, ServerId,
    SessionId, Timestamp, ZoneId,
};
use uuid::Uuid;

/// A core with its directory; world servers and players are played by the test.
pub(crate) struct Stage {
    pub(crate) core: Core,
    pub(crate) directory: EmbeddedDirectory,
    /// The directory is out of reach.
    pub(crate) directory_down: bool,
    pub(crate) now: Now,
    /// What the core wants done, apart from the directory and reports.
    pub(crate) out: VecDeque<Action>,
    pub(crate) generation: u64,
}

pub(crate) const BLUE: ServerKey = ServerKey(0);
pub(crate) const GREEN: ServerKey = ServerKey(1);

pub(crate) fn zone(name: &str) -> ZoneId {
    ZoneId::new(name).unwrap()
}

pub(crate) fn shared(name: &str) -> Place {
    Place { zone: zone(name), instance: None }
}

pub(crate) fn environment(name: &str, capacity: u32, zones: &[&str]) -> Environment {
    let server = Server {
        id: ServerId::new(&format!("{name}-0")).unwrap(),
        instance: InstanceId(Uuid::from_u128(1)),
        address: String::new(),
        tls_name: String::new(),
        zones: zones.iter().map(|z| zone(z)).collect(),
        instance_kinds: vec![zone("dungeon")],
        capacity,
        ready: true,
    };
    Environment {
        id: EnvironmentId::new(name).unwrap(),
        build: BuildVersion::new("1.0.0").unwrap(),
        draining: false,
        leave_at_boundary: false,
        formats_read: vec![1],
        clients: Some(">=1".parse().unwrap()),
        servers: vec![server],
    }
}

pub(crate) fn attached(handle: u32, epoch: Epoch, zone: &str) -> FromWorld {
    FromWorld::Attached { handle, epoch, place: shared(zone), channel: Channel::default(), pin: None, party: None }
}

impl Stage {
    /// Blue accepts; both servers are up with empty rosters.
    pub(crate) fn new(capacity: u32) -> Self {
        Self::with(capacity, CoreConfig::default())
    }

    /// As [`Self::new`], with this configuration.
    pub(crate) fn with(capacity: u32, config: CoreConfig) -> Self {
        let core = Core::new(RealmId::new("eu-1").unwrap(), config);
        let now = Now { mono: Mono(1_000_000), wall: Timestamp(5_000) };
        let (directory, out) = (EmbeddedDirectory::default(), VecDeque::new());
        let mut stage = Self { core, directory, directory_down: false, now, out, generation: 0 };
        stage.accept(Some("blue"), capacity);
        for server in [BLUE, GREEN] {
            stage.link(server);
        }
        stage.out.clear();
        stage
    }

    pub(crate) fn link(&mut self, server: ServerKey) {
        self.tell(Input::LinkUp { server, instance: InstanceId(Uuid::from_u128(1)) });
        self.tell(Input::RosterEnd { server });
    }

    pub(crate) fn accept(&mut self, name: Option<&str>, capacity: u32) {
        self.generation += 1;
        let rules = Rules {
            boundaries: Boundaries { zone: true, instance: true, respawn: true },
            entry_zone: zone("entry"),
            party_follow: false,
            grace: Duration::from_secs(60),
            hold_pins: false,
        };
        let environments = vec![
            environment("blue", capacity, &["entry", "forest"]),
            environment("green", capacity, &["entry", "forest"]),
        ];
        let accepting = name.map(|n| EnvironmentId::new(n).unwrap());
        let realm = RealmId::new("eu-1").unwrap();
        let table = RealmTable::new(realm, Generation(self.generation), accepting, environments, rules).unwrap();
        self.tell(Input::Table(table));
    }

    fn ask(&mut self, request: DirectoryRequest) -> DirectoryAnswer {
        if self.directory_down {
            let DirectoryRequest { id, who, .. } = request;
            return DirectoryAnswer { id, who, outcome: DirectoryOutcome::Unavailable };
        }
        self.directory.answer(request)
    }

    pub(crate) fn tell(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut out = Vec::new();
            self.core.handle(self.now, input, &mut out);
            for action in out {
                match action {
                    Action::Directory(request) => {
                        inputs.push_back(Input::Directory(self.ask(request)));
                    }
                    Action::Report(_) => {}
                    action => self.out.push_back(action),
                }
            }
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let mut out = Vec::new();
        self.core.handle_timeout(self.now, &mut out);
        for action in out {
            match action {
                Action::Directory(request) => {
                    let answer = self.ask(request);
                    self.tell(Input::Directory(answer));
                }
                Action::Report(_) => {}
                action => self.out.push_back(action),
            }
        }
    }

    pub(crate) fn world(&mut self, server: ServerKey, message: FromWorld) {
        self.tell(Input::World { server, message });
    }

    pub(crate) fn login(&mut self, player: u32) -> ConnKey {
        let conn = ConnKey(player);
        let hello = VerifiedHello::Login {
            session: session_id(player),
            who: who(player % 100),
            party: None,
            client_version: "1.0.0".to_owned(),
        };
        self.tell(Input::Hello { conn, hello });
        conn
    }

    pub(crate) fn resume(&mut self, conn: u32, player: u32, received_frames: u64) {
        self.hello_again(conn, (session_id(player), player), 1, received_frames);
    }

    /// Player 1 comes back with a ticket of `session`, sealed at this epoch.
    pub(crate) fn resume_at(&mut self, conn: u32, session: u32, epoch: u64, received_frames: u64) {
        self.hello_again(conn, (session_id(session), 1), epoch, received_frames);
    }

    fn hello_again(&mut self, conn: u32, (session, player): (SessionId, u32), epoch: u64, received_frames: u64) {
        let hello = VerifiedHello::Resume {
            session,
            who: who(player),
            epoch: Epoch(epoch),
            received_frames,
            sent_frames: 0,
            client_version: "1.0.0".to_owned(),
        };
        self.tell(Input::Hello { conn: ConnKey(conn), hello });
    }

    /// What the core wants next.
    pub(crate) fn next(&mut self) -> Action {
        self.out.pop_front().expect("the core wants something")
    }

    pub(crate) fn said(&mut self, conn: ConnKey) -> PlayerMessage {
        match self.next() {
            Action::ToPlayer { conn: to, message } if to == conn => message,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn told(&mut self, server: ServerKey) -> (u32, ToWorld) {
        match self.next() {
            Action::ToWorld { server: to, handle, message } if to == server => (handle, message),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn session(&mut self) -> SessionKey {
        match self.next() {
            Action::Bind { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    /// Logs in and is in play on `server`, at epoch 1 under the returned handle.
    pub(crate) fn play(&mut self, player: u32, server: ServerKey) -> (SessionKey, u32) {
        let conn = self.login(player);
        let session = self.session();
        let (handle, attach) = self.told(server);
        let ToWorld::Attach { epoch, .. } = attach else { panic!("{attach:?}") };
        self.world(server, attached(handle, epoch, "entry"));
        assert!(matches!(self.said(conn), PlayerMessage::Welcome { .. }));
        (session, handle)
    }

    pub(crate) fn nothing(&self) {
        assert_eq!(self.out, VecDeque::new());
    }
}

pub(crate) fn who(player: u32) -> Who {
    Who {
        player: PlayerId::new(&format!("p{player}")).unwrap(),
        character: CharacterId::new(&format!("c{player}")).unwrap(),
    }
}

pub(crate) fn session_id(player: u32) -> SessionId {
    SessionId(Uuid::from_u128(u128::from(player) + 1))
}

pub(crate) fn blob() -> StateBlob {
    StateBlob { state: Bytes::from_static(b"state"), format: 1, digest: Bytes::new() }
}

pub(crate) fn frame(n: u8) -> Bytes {
    Bytes::copy_from_slice(&[n])
}

pub(crate) fn refused(handle: u32, reason: Refusal) -> FromWorld {
    FromWorld::AttachRefused {
        handle,
        reason,
        message: "no".to_owned(),
        highest_epoch: Epoch(0),
        saved_epoch: Epoch(0),
        place: None,
    }
}
