//! Each fault of the schedule: how it begins and how it is taken back.

use std::time::Duration;

use rustix::process::Signal;
use tidegate_events::event;
use tidegate_judge::relay::{Direction, Stream, TcpRelay, Weather};
use tidegate_judge::schedule::{Fault, Kind, Part};

use super::realm::{Realm, World, lock};
use crate::process::signal_if_there;

/// How long a gateway that was told to stop may take; then it is killed, which the judge may notice.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

const BAD: Weather = Weather {
    drop: 0.05,
    duplicate: 0.05,
    reorder: 0.1,
    delay: Duration::from_millis(10),
    jitter: Duration::from_millis(20),
    ..Weather::FAIR
};

/// Shows one fault from its beginning to its end, which takes as long as it lasts, and longer where something must start.
pub(super) fn show(realm: &Realm, number: usize, fault: &Fault) {
    let Some(target) = target(realm, fault) else { return };
    event!("fault_begin", n = number, kind = fault.kind.word(), target = target.name());
    let lasts = Duration::from_millis(fault.lasts_ms);
    match (fault.kind.part(), &target) {
        (Part::Gateway, Target::Gateway(at)) => gateway(realm, *at, fault.kind, lasts),
        (Part::World, Target::World(world)) => world_server(world, fault.kind, lasts),
        (Part::Manager, Target::Gateway(at)) => manager(realm, *at, fault.kind, lasts),
        (Part::Redis, Target::Redis) => redis(realm, fault.kind, lasts),
        (Part::Players, Target::Gateway(at)) => players(realm, *at, fault.kind, lasts),
        (Part::Links, Target::Link(server)) => link(realm, server, fault.kind, lasts),
        _ => unreachable!("`target` gives each part its own"),
    }
    event!("fault_end", n = number, kind = fault.kind.word());
}

enum Target {
    /// A gateway, or its line to something.
    Gateway(usize),
    World(World),
    /// The line to a world server.
    Link(String),
    Redis,
}

impl Target {
    fn name(&self) -> String {
        match self {
            Self::Gateway(at) => format!("gw-{}", at + 1),
            Self::World(world) => world.server.clone(),
            Self::Link(server) => server.clone(),
            Self::Redis => "redis".to_owned(),
        }
    }
}

/// Whom it strikes; `None`: there is nobody of that kind.
fn target(realm: &Realm, fault: &Fault) -> Option<Target> {
    let pick = |count: usize| (count > 0).then(|| fault.target as usize % count);
    match fault.kind.part() {
        Part::World => {
            // Those with players first: a server that nobody is on has nothing to lose.
            let mut worlds: Vec<World> = lock(&realm.worlds).iter().filter(|world| is_there(world)).cloned().collect();
            if worlds.iter().any(|world| world.players > 0) {
                worlds.retain(|world| world.players > 0);
            }
            pick(worlds.len()).map(|at| Target::World(worlds[at].clone()))
        }
        Part::Links => {
            let relays = realm.lines.world_relays();
            pick(relays.len()).map(|at| Target::Link(relays[at].0.clone()))
        }
        Part::Redis => {
            lock(&realm.redis).as_ref()?;
            Some(Target::Redis)
        }
        Part::Gateway | Part::Manager | Part::Players => pick(realm.gateways.len()).map(Target::Gateway),
    }
}

/// True if the process is still a world server and not somebody who got its number.
fn is_there(world: &World) -> bool {
    std::fs::read(format!("/proc/{}/cmdline", world.pid))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("world-server-stub"))
}

fn pause(pid: u32, lasts: Duration) {
    signal_if_there(pid, Signal::STOP);
    std::thread::sleep(lasts);
    signal_if_there(pid, Signal::CONT);
}

fn gateway(realm: &Realm, at: usize, kind: Kind, lasts: Duration) {
    let mut gateway = lock(&realm.gateways[at]);
    match kind {
        Kind::GatewayKill => {
            gateway.kill();
            std::thread::sleep(lasts);
            gateway.restart();
        }
        Kind::GatewayStop => {
            let ended = gateway.stop(STOPS_WITHIN);
            event!("gateway_ended", id = gateway.id, by_itself = ended);
            std::thread::sleep(lasts.min(Duration::from_secs(1)));
            gateway.restart();
        }
        _ => {
            if let Some(process) = &gateway.process {
                pause(process.pid(), lasts);
            }
        }
    }
}

fn world_server(world: &World, kind: Kind, lasts: Duration) {
    if kind == Kind::WorldKill {
        signal_if_there(world.pid, Signal::KILL);
        // The manager starts another; whether in time is for the judge.
        std::thread::sleep(lasts);
        return;
    }
    signal_if_there(world.pid, Signal::STOP);
    std::thread::sleep(lasts);
    if is_there(world) {
        signal_if_there(world.pid, Signal::CONT);
    }
}

fn manager(realm: &Realm, at: usize, kind: Kind, lasts: Duration) {
    let relay = &realm.lines.manager[at];
    match kind {
        Kind::ManagerKill => {
            *lock(&realm.manager) = None;
            std::thread::sleep(lasts);
            realm.restart_manager();
        }
        Kind::ManagerPause => {
            let pid = lock(&realm.manager).as_ref().map(crate::process::Process::pid);
            if let Some(pid) = pid {
                pause(pid, lasts);
            }
        }
        Kind::ManagerCut => streaming(relay, Stream::CUT, lasts),
        Kind::ManagerReset => resetting(relay, lasts),
        _ => streaming(relay, Stream { crumbs: Some(3), ..Stream::FAIR }, lasts),
    }
}

fn redis(realm: &Realm, kind: Kind, lasts: Duration) {
    let Some(relay) = &realm.lines.redis else { return };
    match kind {
        Kind::RedisCut => return streaming(relay, Stream::CUT, lasts),
        Kind::RedisReset => return resetting(relay, lasts),
        Kind::RedisSlow => {
            let slow = Stream { delay: Duration::from_millis(100), crumbs: Some(3), ..Stream::FAIR };
            return streaming(relay, slow, lasts);
        }
        Kind::RedisFailover => return realm.fail_over(lasts),
        _ => {}
    }
    let mut redis = lock(&realm.redis);
    let Some(redis) = redis.as_mut() else { return };
    match kind {
        Kind::RedisWipe => {
            redis.wipe();
            std::thread::sleep(lasts);
        }
        Kind::RedisPause => {
            redis.pause();
            std::thread::sleep(lasts);
            redis.resume();
        }
        Kind::RedisKill => {
            redis.save();
            redis.kill();
            std::thread::sleep(lasts);
            redis.restart();
        }
        // From whatever was saved at some earlier fault; at the first, from nothing.
        _ => {
            redis.kill();
            std::thread::sleep(lasts);
            redis.restart();
        }
    }
}

fn streaming(relay: &TcpRelay, stream: Stream, lasts: Duration) {
    relay.set_both(stream);
    std::thread::sleep(lasts);
    relay.set_both(Stream::FAIR);
}

fn resetting(relay: &TcpRelay, lasts: Duration) {
    relay.refuse(true);
    relay.reset();
    std::thread::sleep(lasts);
    relay.refuse(false);
}

fn players(realm: &Realm, at: usize, kind: Kind, lasts: Duration) {
    let relay = &realm.lines.players[at];
    match kind {
        Kind::PlayersCut => relay.set_both(Weather::CUT),
        Kind::PlayersHalf => relay.set(Direction::Back, Weather::CUT),
        Kind::PlayersRebind => realm.lines.enter(|| relay.rebind()),
        _ => realm.lines.players.iter().for_each(|relay| relay.set_both(BAD)),
    }
    std::thread::sleep(lasts);
    realm.lines.players.iter().for_each(|relay| relay.set_both(Weather::FAIR));
}

fn link(realm: &Realm, server: &str, kind: Kind, lasts: Duration) {
    let struck: Vec<_> =
        realm.lines.world_relays().into_iter().filter(|(id, _)| kind == Kind::LinkBad || id == server).collect();
    let weather = if kind == Kind::LinkBad { BAD } else { Weather::CUT };
    struck.iter().for_each(|(_, relay)| relay.set_both(weather));
    std::thread::sleep(lasts);
    struck.iter().for_each(|(_, relay)| relay.set_both(Weather::FAIR));
}

/// kill -9 of the manager at once, and a new one.
pub(super) fn kill_manager(realm: &Realm) {
    *lock(&realm.manager) = None;
    // Blocks the operator that strikes, who has nothing else to do.
    realm.restart_manager();
}

/// Takes back whatever a fault may have left behind: nothing is cut, everybody runs.
pub(super) fn heal(realm: &Realm) {
    realm.lines.players.iter().for_each(|relay| relay.set_both(Weather::FAIR));
    realm.lines.world_relays().iter().for_each(|(_, relay)| relay.set_both(Weather::FAIR));
    for relay in realm.lines.manager.iter().chain(&realm.lines.redis) {
        relay.refuse(false);
        relay.set_both(Stream::FAIR);
    }
    for gateway in &realm.gateways {
        let mut gateway = lock(gateway);
        match gateway.process.as_mut().map(|process| (process.pid(), process.has_ended())) {
            Some((pid, false)) => signal_if_there(pid, Signal::CONT),
            ended => {
                event!("gateway_found_dead", id = gateway.id, was_running = ended.is_some());
                gateway.restart();
            }
        }
    }
    let manager = lock(&realm.manager).as_mut().map(|manager| (manager.pid(), manager.has_ended()));
    match manager {
        Some((pid, false)) => signal_if_there(pid, Signal::CONT),
        _ => realm.restart_manager(),
    }
    event!("healed");
}
