//! What there is at one instant.

/// Number of world servers, and of gateways.
pub(crate) const PAIR: usize = 2;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The world servers.
    pub servers: [Server; PAIR],
    /// The gateways.
    pub gateways: [Gateway; PAIR],
    /// `links[gateway][server]`.
    pub links: [[Link; PAIR]; PAIR],
    /// Messages on their way, oldest first.
    pub to_server: [[Vec<ToServer>; PAIR]; PAIR],
    /// Messages on their way, oldest first.
    pub to_gateway: [[Vec<ToGateway>; PAIR]; PAIR],
    /// The directory's entry of the character.
    pub directory: Entry,
    /// The entry before its last change: what a lagging replica has.
    pub replica: Entry,
    /// The epoch in the realm database: the arbiter.
    pub saved: u8,
    /// The player.
    pub player: Player,
    /// A write of an epoch that was over has been accepted.
    pub stale_write: bool,
    /// A player in play was dropped although nothing had failed.
    pub dropped: bool,
    /// Faults that may still happen.
    pub faults: u8,
    /// Hand-overs that may still begin.
    pub handovers: u8,
    /// Hellos that may still come although the player is connected.
    pub hellos: u8,
    /// Logouts that may still come.
    pub logouts: u8,
}

/// A world server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// The process runs.
    pub up: bool,
    /// Which run.
    pub run: u8,
    /// What it holds of the character.
    pub seat: Option<Seat>,
}

/// A character held by a world server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Seat {
    /// At which epoch.
    pub epoch: u8,
    /// For which gateway's link; `None`: that link is gone.
    pub link: Option<usize>,
    /// The run of the gateway that last got it, whether or not its link still is; `None`: that run is over.
    pub owner: Option<usize>,
    /// How.
    pub phase: Phase,
}

/// How a character is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The claim is being made, from this saved epoch.
    Claiming {
        /// The saved epoch that the claim goes out from.
        from: u8,
    },
    /// In play (parked if the link is gone).
    Playing,
    /// Stands still in a hand-over, and is saved.
    Frozen,
    /// Loaded and inert.
    Prepared {
        /// The source's epoch.
        from: u8,
    },
    /// Another gateway takes it over; the reclaim is being made.
    Reclaiming {
        /// The epoch it will have.
        to: u8,
        /// Whose it will be; `None`: that link is gone again.
        by: Option<usize>,
        /// The run of the gateway that takes it; `None`: that run is over.
        taker: Option<usize>,
    },
    /// Being saved for the last time.
    Leaving {
        /// Something has happened since the save before.
        unsaved: bool,
    },
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// The process runs.
    pub up: bool,
    /// The roster of that server's link has been read.
    pub ready: [bool; PAIR],
    /// The highest epoch seen.
    pub seen: u8,
    /// The highest epoch that the realm database is known to have granted: it is at least there.
    pub granted: u8,
    /// The character's session.
    pub session: Option<Session>,
    /// Tells answers to an earlier search from those to this one.
    pub round: u8,
}

/// A session at a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    /// The gateway believes that the player is connected.
    pub connected: bool,
    /// It was in play here: if it is in play elsewhere, it is over here.
    pub restoring: bool,
    /// Where it is.
    pub standing: Standing,
}

/// A run of a server at which a session is at home, and since which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home {
    /// The server.
    pub server: usize,
    /// The run of it.
    pub run: u8,
    /// The epoch.
    pub epoch: u8,
}

/// Where a session is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Waits for the link to the server where the character is said to live.
    Taking {
        /// The server.
        server: usize,
        /// The run of it; `None`: whichever runs now.
        run: Option<u8>,
        /// The epoch at which it is said to be held there.
        held: u8,
    },
    /// Asks all servers whether they hold the character.
    Finding {
        /// An epoch that had been granted before the search began: once nobody is found, whoever was granted it, or an earlier
        /// one, is gone.
        from: u8,
        /// What is known of each server.
        asked: [Asked; PAIR],
    },
    /// About to choose a home; whoever held `from` certainly does not simulate.
    Claiming {
        /// The saved epoch from which the claim goes out.
        from: u8,
    },
    /// `Attach` is on its way.
    Attaching {
        /// The home to be.
        home: Home,
        /// From which saved epoch; `None`: it is a take-over.
        from: Option<u8>,
    },
    /// The server would not take it yet.
    Retrying {
        /// The home to be.
        home: Home,
        /// As in `Attaching`.
        from: Option<u8>,
    },
    /// In play.
    Playing(Home),
    /// `Freeze` is on its way.
    Freezing(Home),
    /// `Prepare` is on its way, or answered.
    Preparing {
        /// From where.
        source: Home,
        /// Its link has not broken since.
        source_up: bool,
        /// Where to.
        target: Home,
        /// `Prepared` has come.
        prepared: bool,
    },
    /// Committed; `Activate` is on its way.
    Activating {
        /// From where.
        source: Home,
        /// Where to.
        target: Home,
    },
    /// The link to the home is gone.
    Lost {
        /// Which.
        home: Home,
        /// It was at home there: the server had said so. Else another may have come to the same number elsewhere.
        sure: bool,
    },
    /// `Leave` is on its way.
    Leaving(Home),
}

/// What a search knows of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Asked {
    /// Nothing.
    No,
    /// The question is on its way.
    Sent,
    /// It does not hold the character.
    Nothing,
}

/// The state of a link, as its two ends see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// Neither end has it.
    Down,
    /// Both ends have it.
    Up,
    /// The gateway knows that it is gone; the server's lease is not over yet.
    Leased,
    /// The server knows that it is gone; the gateway does not yet.
    Unnoticed,
}

/// The directory's entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The highest epoch given; 0 with no home: nothing is known.
    pub epoch: u8,
    /// Server and its run.
    pub home: Option<(usize, u8)>,
}

/// The player.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Player {
    /// Wants to be in the world.
    pub wants: bool,
    /// The gateway of the newest connection.
    pub connection: Option<usize>,
}

/// Gateway to world server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the wire's own names, described there")]
pub enum ToServer {
    Attach { epoch: u8, from: u8 },
    TakeOver { epoch: u8 },
    Freeze { epoch: u8 },
    Thaw { epoch: u8 },
    Release { epoch: u8 },
    Prepare { epoch: u8, from: u8 },
    Activate { epoch: u8 },
    Abort { epoch: u8 },
    Leave { epoch: u8 },
    Find { round: u8 },
}

/// World server to gateway. `Attached` stands for `Activated`, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the wire's own names, described there")]
pub enum ToGateway {
    Attached { epoch: u8 },
    AttachRefused { epoch: u8, why: Refusal },
    TakenOver { epoch: u8 },
    Frozen { epoch: u8 },
    FreezeRefused { epoch: u8 },
    Prepared { epoch: u8 },
    PrepareRefused { epoch: u8 },
    Left { epoch: u8 },
    Found { round: u8, held: Option<Held> },
    Roster { held: Option<Held> },
}

/// Why an attach is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The saved epoch is another.
    Stale {
        /// Which.
        saved: u8,
    },
    /// Ask again.
    NotReady,
    /// Not held here.
    Unknown,
}

/// A line of a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// At which epoch.
    pub epoch: u8,
    /// Only prepared: not at home here.
    pub inert: bool,
    /// The epoch is granted, not only asked for.
    pub granted: bool,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A link breaks and its gateway notices first; what is on its way is lost.
    BreakAtGateway(usize, usize),
    /// A link breaks and its server notices first.
    BreakAtServer(usize, usize),
    /// A gateway is killed.
    KillGateway(usize),
    /// A world server is killed.
    KillServer(usize),
    /// The directory forgets everything.
    Wipe,
    /// The directory goes back to its state before the last change.
    FailOver,
    /// The directory does not answer this gateway's next question, and the gateway goes on without it.
    Unavailable(usize),
}

impl State {
    /// The seat is simulated at this instant: in play, and the lease of its link is valid.
    #[must_use]
    pub fn simulates(&self, server: usize) -> Option<&Seat> {
        let seat = self.servers[server].seat.as_ref().filter(|seat| seat.phase == Phase::Playing)?;
        let link = self.links[seat.link?][server];
        matches!(link, Link::Up | Link::Leased).then_some(seat)
    }

    /// The player who wants in is in; who does not is out.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        if !self.player.wants {
            return self.gateways.iter().all(|gateway| gateway.session.is_none());
        }
        self.player.connection.is_some_and(|g| {
            let Some(Session { connected: true, standing: Standing::Playing(home), .. }) = &self.gateways[g].session
            else {
                return false;
            };
            self.links[g][home.server] == Link::Up
                && self.simulates(home.server).is_some_and(|seat| seat.epoch == home.epoch && seat.link == Some(g))
        })
    }

    pub(crate) fn say(&mut self, gateway: usize, server: usize, message: ToServer) {
        if self.links[gateway][server] == Link::Up {
            self.to_server[gateway][server].push(message);
        }
    }

    pub(crate) fn answer(&mut self, gateway: Option<usize>, server: usize, message: ToGateway) {
        if let Some(gateway) = gateway
            && self.links[gateway][server] == Link::Up
        {
            self.to_gateway[gateway][server].push(message);
        }
    }

    /// Forgets what cannot matter any more, so that states that behave alike are one.
    pub(crate) fn normalise(&mut self) {
        if self.faults == 0 {
            self.replica = Entry::default();
        }
        for g in 0..PAIR {
            let asks = self.to_server[g].iter().flatten().any(|m| matches!(m, ToServer::Find { .. }));
            let answers = self.to_gateway[g].iter().flatten().any(|m| matches!(m, ToGateway::Found { .. }));
            let gateway = &mut self.gateways[g];
            if !asks && !answers {
                gateway.round = 0;
            }
            if gateway.session.is_none() {
                gateway.seen = 0;
                gateway.granted = 0;
            }
        }
    }

    pub(crate) fn enter(&mut self, entry: Entry) {
        if self.directory != entry {
            self.replica = self.directory;
            self.directory = entry;
        }
    }
}
