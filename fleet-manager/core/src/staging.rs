//! Judging an environment by its servers: one that is wrong fails it, one that is missing keeps it waiting.

use std::collections::BTreeMap;

use crate::environment::Environment;
use crate::observe::{Assets, EnvironmentObservation, ServerObservation, ServerState};

/// What the servers of an environment amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every server of every fleet is loaded and is what it should be.
    Complete,
    /// Some are on their way; says which.
    Waiting(String),
    /// One is wrong; says which and how.
    Wrong(String),
}

/// Judges `environment` by what was seen of its servers.
#[must_use]
pub fn judge(environment: &Environment, seen: Option<&EnvironmentObservation>) -> Verdict {
    let servers: &[ServerObservation] = seen.map_or(&[], |s| &s.servers);
    if let Some(wrong) = servers.iter().find_map(|s| wrong(environment, s)) {
        return Verdict::Wrong(wrong);
    }
    let mut loaded: BTreeMap<&str, u32> = BTreeMap::new();
    for server in servers {
        match is_loaded(environment, server) {
            Ok(()) => *loaded.entry(server.fleet.as_str()).or_default() += 1,
            Err(why) => return Verdict::Waiting(format!("server {} {why}", server.id)),
        }
    }
    for fleet in &environment.fleets {
        let count = loaded.get(fleet.name.as_str()).copied().unwrap_or(0);
        if count < fleet.replicas {
            return Verdict::Waiting(format!("fleet {} has {count} of {} servers", fleet.name, fleet.replicas));
        }
    }
    Verdict::Complete
}

/// Why this server can never be right; `None`: it may be.
fn wrong(environment: &Environment, server: &ServerObservation) -> Option<String> {
    if let Some(build) = server.build.as_ref().filter(|b| **b != environment.build.version) {
        return Some(format!("server {} runs build {build}, not {}", server.id, environment.build.version));
    }
    match (&server.assets, environment.build.assets_digest) {
        (Assets::Failed(error), _) => Some(format!("server {} could not load its assets: {error}", server.id)),
        (Assets::Loaded(digest), Some(expected)) if *digest != expected => {
            Some(format!("server {} loaded assets {}, not {}", server.id, hex(digest), hex(&expected)))
        }
        (Assets::Loaded(_) | Assets::NotLoaded, _) => None,
    }
}

/// True when this server is not what it should be.
#[must_use]
pub fn is_wrong(environment: &Environment, server: &ServerObservation) -> bool {
    wrong(environment, server).is_some()
}

fn is_loaded(environment: &Environment, server: &ServerObservation) -> Result<(), String> {
    let because = |what: &str| {
        if server.reason.is_empty() { what.to_owned() } else { format!("{what}: {}", server.reason) }
    };
    match server.state {
        ServerState::Starting => Err(because("is starting")),
        ServerState::Loading => Err(because("is loading")),
        ServerState::Unreachable => Err(because("is unreachable")),
        ServerState::Exited => Err(because("exited")),
        ServerState::Stopping => Err(because("is stopping")),
        ServerState::Loaded | ServerState::Serving => {
            if server.build.is_none() || server.instance.is_none() || server.address.is_none() {
                return Err("has not said what it is".to_owned());
            }
            if environment.build.assets_digest.is_some() && server.assets == Assets::NotLoaded {
                return Err("has not loaded its assets".to_owned());
            }
            Ok(())
        }
    }
}

/// The first bytes of a digest: enough to tell two apart.
fn hex(digest: &[u8; 32]) -> String {
    digest[..8].iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Source;
    use crate::model::{build, environment_id, fleet};
    use tidegate_types::{InstanceId, Timestamp};

    fn server(n: u32) -> ServerObservation {
        let build = build("2.0.0", &[1, 2]);
        ServerObservation {
            id: format!("s{n}").parse().unwrap(),
            fleet: "main".parse().unwrap(),
            state: ServerState::Loaded,
            instance: InstanceId::from_slice(&[1; 16]),
            address: Some("127.0.0.1:1".to_owned()),
            tls_name: format!("s{n}.world.tidegate"),
            build: Some(build.version),
            assets: Assets::Loaded(build.assets_digest.unwrap()),
            zones: Vec::new(),
            instance_kinds: Vec::new(),
            capacity: 10,
            restarts: 0,
            report: None,
            reason: String::new(),
        }
    }

    fn check(given: Vec<ServerObservation>, expect: Verdict) {
        let id = environment_id("green");
        let environment =
            Environment::new(id.clone(), build("2.0.0", &[1, 2]), vec![fleet(10)], Source::Empty, Timestamp(0));
        let seen = EnvironmentObservation { environment: id, servers: given };
        assert_eq!(judge(&environment, Some(&seen)), expect);
    }

    #[test]
    fn every_server_of_every_fleet_must_be_loaded() {
        check(vec![server(0), server(1)], Verdict::Complete);
        check(vec![server(0)], Verdict::Waiting("fleet main has 1 of 2 servers".to_owned()));
        check(Vec::new(), Verdict::Waiting("fleet main has 0 of 2 servers".to_owned()));
        let starting = ServerObservation { state: ServerState::Exited, reason: "exit code 3".to_owned(), ..server(1) };
        check(vec![server(0), starting], Verdict::Waiting("server s1 exited: exit code 3".to_owned()));
        let silent = ServerObservation { build: None, ..server(1) };
        check(vec![server(0), silent], Verdict::Waiting("server s1 has not said what it is".to_owned()));
        let bare = ServerObservation { assets: Assets::NotLoaded, ..server(1) };
        check(vec![server(0), bare], Verdict::Waiting("server s1 has not loaded its assets".to_owned()));
    }

    #[test]
    fn one_wrong_server_is_enough_even_while_others_start() {
        let starting = ServerObservation { state: ServerState::Starting, ..server(0) };
        let other = ServerObservation { build: Some("1.9.0".parse().unwrap()), ..server(1) };
        check(vec![starting.clone(), other], Verdict::Wrong("server s1 runs build 1.9.0, not 2.0.0".to_owned()));
        let broken = ServerObservation { assets: Assets::Failed("no such folder".to_owned()), ..server(1) };
        let why = "server s1 could not load its assets: no such folder";
        check(vec![starting.clone(), broken], Verdict::Wrong(why.to_owned()));
        let other = ServerObservation { assets: Assets::Loaded([0; 32]), ..server(1) };
        let expected = hex(&build("2.0.0", &[1, 2]).assets_digest.unwrap());
        check(
            vec![starting, other],
            Verdict::Wrong(format!("server s1 loaded assets 0000000000000000, not {expected}")),
        );
    }
}
