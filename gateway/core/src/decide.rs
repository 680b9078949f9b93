//! Where a session goes: the only place that makes a [`RoutePermit`], and nothing attaches or prepares without one.
//!
//! Pure functions of the table and of who sits where. What they may not know: sessions' states, links, time.

use tidegate_types::{BuildVersion, Cause, EnvironmentId, Generation, ServerId};

use crate::key::ServerKey;
use crate::message::{HoldReason, Place};
use crate::table::{Environment, RealmTable, Server};

/// The word that a session may go to that server, by that generation, for that cause. Made in this file only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePermit {
    generation: Generation,
    environment: EnvironmentId,
    build: BuildVersion,
    server: ServerKey,
    server_id: ServerId,
    place: Option<Place>,
    cause: Cause,
    follows_party: bool,
}

impl RoutePermit {
    /// By which table.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }
    /// Into which environment.
    #[must_use]
    pub const fn environment(&self) -> &EnvironmentId {
        &self.environment
    }
    /// That environment's build.
    #[must_use]
    pub const fn build(&self) -> &BuildVersion {
        &self.build
    }
    /// To which server.
    #[must_use]
    pub const fn server(&self) -> ServerKey {
        self.server
    }
    /// To which server, by id.
    #[must_use]
    pub const fn server_id(&self) -> &ServerId {
        &self.server_id
    }
    /// To which place; `None` is wherever the character was saved.
    #[must_use]
    pub const fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }
    /// Why.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }
    /// True if a login joins its party's environment rather than the accepting one.
    #[must_use]
    pub const fn follows_party(&self) -> bool {
        self.follows_party
    }
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go there.
    Route(RoutePermit),
    /// Wait in line.
    Hold(HoldReason),
    /// No.
    Refuse(Refuse),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refuse {
    /// The environment does not admit this client's version.
    ClientTooOld,
    /// Servers serve the place; none has room.
    NoRoom,
    /// No server serves the place.
    NoServer,
    /// The session is where it should go.
    AlreadyThere,
    /// The session stays on its server, which serves the place itself.
    Here,
}

impl Refuse {
    /// The stable word of `TransferRefused`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientTooOld => "client_too_old",
            Self::NoRoom => "no_room",
            Self::NoServer => "no_server",
            Self::AlreadyThere | Self::Here => "here",
        }
    }
}

/// A server that can be reached, and how full it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// Its key.
    pub key: ServerKey,
    /// Players on it or on their way to it.
    pub players: u32,
}

/// Who sits where.
pub trait Seats {
    /// The server's occupancy; `None` if its link is not up.
    fn occupancy(&self, server: &ServerId) -> Option<Occupancy>;
    /// The server that hosts this instance of that environment already.
    fn instance_host(&self, environment: &EnvironmentId, place: &Place) -> Option<ServerKey>;
}

/// A login looks for a home.
#[derive(Debug, Clone, Copy)]
pub struct LoginAsk<'a> {
    /// Where the character is, once a world server said so.
    pub place: Option<&'a Place>,
    /// The client's version.
    pub client_version: &'a str,
    /// Where the party's other members live, if it is somewhere.
    pub party_environment: Option<&'a EnvironmentId>,
    /// Servers that refused this session just now.
    pub avoid: &'a [ServerKey],
}

/// Decides where a new session goes: rule 3, with the exception of rule 10.
pub fn decide_login(table: &RealmTable, seats: &impl Seats, ask: &LoginAsk<'_>) -> Decision {
    let accepting = table.accepting();
    let follow = ask
        .party_environment
        .filter(|id| table.rules().party_follow && !table.accepts(id))
        .and_then(|id| table.environment(id))
        .filter(|e| admits(e, ask.client_version));
    if let Some(environment) = follow
        && let Ok(seat) = pick(table, environment, seats, ask.place, 1, ask.avoid)
    {
        return Decision::Route(permit(table, environment, seat, ask.place, Cause::Login, true));
    }
    let Some(environment) = accepting else { return Decision::Hold(HoldReason::Admission) };
    if !admits(environment, ask.client_version) {
        return Decision::Refuse(Refuse::ClientTooOld);
    }
    match pick(table, environment, seats, ask.place, 1, ask.avoid) {
        Ok(seat) => Decision::Route(permit(table, environment, seat, ask.place, Cause::Login, false)),
        Err(_) => Decision::Hold(HoldReason::Full),
    }
}

/// A group crosses a boundary.
#[derive(Debug, Clone, Copy)]
pub struct BoundaryAsk<'a> {
    /// Where it is pinned.
    pub environment: &'a EnvironmentId,
    /// On which server it is.
    pub server: ServerKey,
    /// How many they are.
    pub members: u32,
    /// Where to.
    pub place: &'a Place,
    /// Zone, instance or respawn.
    pub cause: Cause,
}

/// What was decided at a boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundaryDecision {
    /// Where to, or why not.
    pub decision: Decision,
    /// The policy wanted another environment, which could not serve; so they stay in theirs.
    pub fell_back: bool,
}

/// Decides where a group goes at a boundary: one environment and one server for all of them.
pub fn decide_boundary(table: &RealmTable, seats: &impl Seats, ask: &BoundaryAsk<'_>) -> BoundaryDecision {
    let own = table.environment(ask.environment);
    let wanted = wanted_environment(table, own, ask.cause);
    let stays = |e: &Environment| own.is_some_and(|own| own.id == e.id);
    let mut fell_back = false;
    if let Some(environment) = wanted.filter(|e| !stays(e)) {
        match pick(table, environment, seats, Some(ask.place), ask.members, &[]) {
            Ok(seat) => {
                let permit = permit(table, environment, seat, Some(ask.place), ask.cause, false);
                return BoundaryDecision { decision: Decision::Route(permit), fell_back };
            }
            Err(_) => fell_back = true,
        }
    }
    let Some(environment) = own else {
        return BoundaryDecision { decision: Decision::Refuse(Refuse::NoServer), fell_back };
    };
    let decision = if serves_itself(environment, seats, ask) {
        Decision::Refuse(Refuse::Here)
    } else {
        match pick(table, environment, seats, Some(ask.place), ask.members, &[]) {
            Ok((_, key)) if key == ask.server => Decision::Refuse(Refuse::Here),
            Ok(seat) => Decision::Route(permit(table, environment, seat, Some(ask.place), ask.cause, false)),
            Err(refuse) => Decision::Refuse(refuse),
        }
    };
    BoundaryDecision { decision, fell_back }
}

/// The server they are on serves the place, and no other server hosts that instance: nobody needs to be handed over.
fn serves_itself(environment: &Environment, seats: &impl Seats, ask: &BoundaryAsk<'_>) -> bool {
    let hosted = match &ask.place.instance {
        Some(_) => seats.instance_host(&environment.id, ask.place),
        None => None,
    };
    match hosted {
        Some(host) => host == ask.server,
        None => environment.servers.iter().any(|s| {
            s.serves(ask.place) && seats.occupancy(&s.id).is_some_and(|occupancy| occupancy.key == ask.server)
        }),
    }
}

fn wanted_environment<'a>(
    table: &'a RealmTable,
    own: Option<&'a Environment>,
    cause: Cause,
) -> Option<&'a Environment> {
    let boundaries = table.rules().boundaries;
    let allowed = match cause {
        Cause::Zone => boundaries.zone,
        Cause::Instance => boundaries.instance,
        Cause::Respawn => boundaries.respawn,
        Cause::Login | Cause::Drain | Cause::Operator | Cause::Crash | Cause::Resume => false,
    };
    match own {
        Some(own) if table.rules().hold_pins || table.accepts(&own.id) || !allowed => Some(own),
        // An environment that does not accept lets its sessions go at every boundary that the policy allows; with nobody
        // accepting there is nowhere to go.
        Some(own) => table.accepting().or(Some(own)),
        None => table.accepting(),
    }
}

/// A session is to be moved by command.
#[derive(Debug, Clone, Copy)]
pub struct MoveAsk<'a> {
    /// Where it is pinned.
    pub environment: &'a EnvironmentId,
    /// On which server it is.
    pub server: ServerKey,
    /// Where to.
    pub target: &'a EnvironmentId,
    /// Exactly this server, if set.
    pub target_server: Option<&'a ServerId>,
    /// Where in the world it is.
    pub place: Option<&'a Place>,
    /// Drain or operator.
    pub cause: Cause,
}

/// Decides where a session goes at a drain's deadline or by an operator's word.
pub fn decide_move(table: &RealmTable, seats: &impl Seats, ask: &MoveAsk<'_>) -> Decision {
    let Some(environment) = table.environment(ask.target) else { return Decision::Refuse(Refuse::NoServer) };
    if ask.environment == ask.target && ask.target_server.is_none() {
        return Decision::Refuse(Refuse::AlreadyThere);
    }
    let seat = match ask.target_server {
        None => pick(table, environment, seats, ask.place, 1, &[ask.server]),
        Some(id) => match environment.servers.iter().find(|s| &s.id == id) {
            None => Err(Refuse::NoServer),
            Some(server) if !ask.place.is_none_or(|p| server.serves(p)) => Err(Refuse::NoServer),
            Some(server) => match seats.occupancy(&server.id) {
                Some(o) if o.key == ask.server => Err(Refuse::AlreadyThere),
                Some(o) if server.ready && o.players < server.capacity => Ok((server, o.key)),
                Some(_) | None => Err(Refuse::NoRoom),
            },
        },
    };
    match seat {
        Ok(seat) => Decision::Route(permit(table, environment, seat, ask.place, ask.cause, false)),
        Err(refuse) => Decision::Refuse(refuse),
    }
}

/// A session's home died.
#[derive(Debug, Clone, Copy)]
pub struct CrashAsk<'a> {
    /// Where it is pinned.
    pub environment: &'a EnvironmentId,
    /// Where in the world it was; `None` lets the save say it.
    pub place: Option<&'a Place>,
    /// The server that is likely to have it, as long as its place is not known.
    pub prefer: Option<ServerKey>,
    /// Servers that refused this session just now.
    pub avoid: &'a [ServerKey],
}

/// Decides where a session whose home died is restored: in its own environment, or, if that is gone from the table, in the
/// accepting one.
pub fn decide_crash(table: &RealmTable, seats: &impl Seats, ask: &CrashAsk<'_>) -> Decision {
    let Some(environment) = table.environment(ask.environment).or_else(|| table.accepting()) else {
        return Decision::Hold(HoldReason::HomeLost);
    };
    let likely = ask.prefer.filter(|key| ask.place.is_none() && !ask.avoid.contains(key)).and_then(|key| {
        let is_it =
            |s: &&Server| s.ready && seats.occupancy(&s.id).is_some_and(|o| o.key == key && o.players < s.capacity);
        environment.servers.iter().find(is_it).map(|server| (server, key))
    });
    if let Some(seat) = likely {
        return Decision::Route(permit(table, environment, seat, None, Cause::Crash, false));
    }
    match pick(table, environment, seats, ask.place, 1, ask.avoid) {
        Ok(seat) => Decision::Route(permit(table, environment, seat, ask.place, Cause::Crash, false)),
        Err(_) => Decision::Hold(HoldReason::HomeLost),
    }
}

/// True if a claim that was permitted by an older table may still be acted on. Only new sessions are bound to the
/// accepting environment; homes that died are replaced where they were.
pub fn still_good(table: &RealmTable, permit: &RoutePermit) -> bool {
    permit.generation == table.generation() || permit.cause != Cause::Login || table.accepts(&permit.environment)
}

fn admits(environment: &Environment, client_version: &str) -> bool {
    environment
        .clients
        .as_ref()
        .is_none_or(|admitted| semver::Version::parse(client_version).is_ok_and(|version| admitted.matches(&version)))
}

fn permit(
    table: &RealmTable,
    environment: &Environment,
    (server, key): (&Server, ServerKey),
    place: Option<&Place>,
    cause: Cause,
    follows_party: bool,
) -> RoutePermit {
    RoutePermit {
        generation: table.generation(),
        environment: environment.id.clone(),
        build: environment.build.clone(),
        server: key,
        server_id: server.id.clone(),
        place: place.cloned(),
        cause,
        follows_party,
    }
}

/// The least loaded server of the environment that serves the place (the entry zone if not known) and has room for all
/// members; an instance that exists already binds them to its server.
fn pick<'a>(
    table: &RealmTable,
    environment: &'a Environment,
    seats: &impl Seats,
    place: Option<&Place>,
    members: u32,
    avoid: &[ServerKey],
) -> Result<(&'a Server, ServerKey), Refuse> {
    let entry = Place { zone: table.rules().entry_zone.clone(), instance: None };
    let place = place.unwrap_or(&entry);
    let host = place.instance.as_ref().and_then(|_| seats.instance_host(&environment.id, place));
    let mut refuse = Refuse::NoServer;
    let mut best: Option<(&Server, Occupancy)> = None;
    for server in environment.servers.iter().filter(|s| s.ready && s.serves(place)) {
        let Some(occupancy) = seats.occupancy(&server.id) else { continue };
        if avoid.contains(&occupancy.key) || host.is_some_and(|host| host != occupancy.key) {
            continue;
        }
        refuse = Refuse::NoRoom;
        if occupancy.players.saturating_add(members) > server.capacity {
            continue;
        }
        let fuller = |(other, o): &(&Server, Occupancy)| {
            let mine = u64::from(occupancy.players) * u64::from(other.capacity);
            let theirs = u64::from(o.players) * u64::from(server.capacity);
            mine < theirs || (mine == theirs && server.id < other.id)
        };
        if best.as_ref().is_none_or(fuller) {
            best = Some((server, occupancy));
        }
    }
    best.map(|(server, occupancy)| (server, occupancy.key)).ok_or(refuse)
}

#[cfg(test)]
mod tests;
