//! The routing table of one realm at one generation: which environment takes new sessions, and where the servers are.
//!
//! Always whole. Own types: the shell converts the wire's table, and wrong input dies there or in [`RealmTable::new`].

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{BuildVersion, EnvironmentId, Generation, InstanceId, RealmId, ServerId, ZoneId};

use crate::message::Place;

/// A routing table. Made by [`RealmTable::new`] only, which checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealmTable {
    realm: RealmId,
    generation: Generation,
    accepting: Option<EnvironmentId>,
    environments: BTreeMap<EnvironmentId, Environment>,
    rules: Rules,
}

/// What a table says beside its environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which boundaries let a pinned session change environment.
    pub boundaries: Boundaries,
    /// Where a new character begins: the first guess for every login.
    pub entry_zone: ZoneId,
    /// A member who logs in joins the party's environment.
    pub party_follow: bool,
    /// How long a detached session keeps its place.
    pub grace: Duration,
    /// Keep pinned sessions where they are, whatever the boundary.
    pub hold_pins: bool,
}

/// Which boundaries let a pinned session change environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundaries {
    /// A zone change.
    pub zone: bool,
    /// Entering or leaving a private instance.
    pub instance: bool,
    /// A respawn.
    pub respawn: bool,
}

/// One environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its id.
    pub id: EnvironmentId,
    /// Its build.
    pub build: BuildVersion,
    /// It is draining (or drained): its sessions leave at boundaries.
    pub draining: bool,
    /// Its sessions leave at their next boundary even if it is not draining.
    pub leave_at_boundary: bool,
    /// Formats of player state its build reads; empty: not said, all are tried.
    pub formats_read: Vec<u32>,
    /// Client versions it admits; `None`: all.
    pub clients: Option<semver::VersionReq>,
    /// Its servers.
    pub servers: Vec<Server>,
}

/// One world server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its id.
    pub id: ServerId,
    /// The run of its process.
    pub instance: InstanceId,
    /// Where its link listens, "host:port".
    pub address: String,
    /// The certificate name to expect on the link.
    pub tls_name: String,
    /// Shared zones it serves.
    pub zones: Vec<ZoneId>,
    /// Kinds of private instance it hosts.
    pub instance_kinds: Vec<ZoneId>,
    /// Most players it takes.
    pub capacity: u32,
    /// False: bring nobody new.
    pub ready: bool,
}

/// A table that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTable {
    /// Two environments have one id.
    #[error("environment {0} stands twice in the table")]
    EnvironmentTwice(EnvironmentId),
    /// Two servers have one id.
    #[error("server {0} stands twice in the table")]
    ServerTwice(ServerId),
    /// The accepting environment is not in it.
    #[error("the accepting environment {0} is not in the table")]
    AcceptingMissing(EnvironmentId),
}

impl RealmTable {
    /// Checks and makes a table.
    ///
    /// # Errors
    /// [`InvalidTable`] if an id stands twice or the accepting environment is missing. That there is at most one accepting
    /// environment is the type's own word.
    pub fn new(
        realm: RealmId,
        generation: Generation,
        accepting: Option<EnvironmentId>,
        environments: Vec<Environment>,
        rules: Rules,
    ) -> Result<Self, InvalidTable> {
        let mut by_id = BTreeMap::new();
        let mut servers = std::collections::BTreeSet::new();
        for environment in environments {
            for server in &environment.servers {
                if !servers.insert(server.id.clone()) {
                    return Err(InvalidTable::ServerTwice(server.id.clone()));
                }
            }
            let id = environment.id.clone();
            if by_id.insert(id.clone(), environment).is_some() {
                return Err(InvalidTable::EnvironmentTwice(id));
            }
        }
        if let Some(id) = &accepting
            && !by_id.contains_key(id)
        {
            return Err(InvalidTable::AcceptingMissing(id.clone()));
        }
        Ok(Self { realm, generation, accepting, environments: by_id, rules })
    }

    /// Whose table it is.
    #[must_use]
    pub const fn realm(&self) -> &RealmId {
        &self.realm
    }

    /// Which of the realm's tables it is.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The one environment that takes new sessions; `None`: they are held.
    #[must_use]
    pub fn accepting(&self) -> Option<&Environment> {
        self.accepting.as_ref().and_then(|id| self.environments.get(id))
    }

    /// True if that is the environment that takes new sessions.
    #[must_use]
    pub fn accepts(&self, id: &EnvironmentId) -> bool {
        self.accepting.as_ref() == Some(id)
    }

    /// An environment.
    #[must_use]
    pub fn environment(&self, id: &EnvironmentId) -> Option<&Environment> {
        self.environments.get(id)
    }

    /// All environments, by id.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values()
    }

    /// All servers with their environments, by environment.
    pub fn servers(&self) -> impl Iterator<Item = (&Environment, &Server)> {
        self.environments.values().flat_map(|e| e.servers.iter().map(move |s| (e, s)))
    }

    /// The rest.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl Server {
    /// True if it can host that place: a shared zone it serves, or an instance of a kind it hosts.
    #[must_use]
    pub fn serves(&self, place: &Place) -> bool {
        let list = if place.instance.is_some() { &self.instance_kinds } else { &self.zones };
        list.contains(&place.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{dungeon, environment, environment_id, realm, rules, server, shared};

    fn check(accepting: Option<&str>, environments: Vec<Environment>, expect: Result<Option<&str>, InvalidTable>) {
        let accepting = accepting.map(environment_id);
        let table = RealmTable::new(realm(), Generation(1), accepting, environments, rules());
        match (table, expect) {
            (Ok(table), Ok(id)) => assert_eq!(table.accepting().map(|e| e.id.as_str()), id),
            (table, expect) => assert_eq!(table.err(), expect.err()),
        }
    }

    #[test]
    fn a_table_names_each_once_and_accepts_by_one_that_is_in_it() {
        let blue = || environment("blue", vec![server("a", &[])]);
        let green = || environment("green", vec![server("b", &[])]);
        check(Some("blue"), vec![blue(), green()], Ok(Some("blue")));
        check(None, vec![blue()], Ok(None));
        check(Some("red"), vec![blue()], Err(InvalidTable::AcceptingMissing(environment_id("red"))));
        check(
            None,
            vec![blue(), environment("blue", vec![])],
            Err(InvalidTable::EnvironmentTwice(environment_id("blue"))),
        );
        let twice = environment("green", vec![server("a", &[])]);
        check(None, vec![blue(), twice], Err(InvalidTable::ServerTwice(server("a", &[]).id)));
    }

    #[test]
    fn a_server_serves_shared_zones_and_kinds_of_instance() {
        let server = server("a", &["forest"]);
        assert!(server.serves(&shared("forest")) && server.serves(&dungeon("any")));
        assert!(!server.serves(&shared("dungeon")) && !server.serves(&shared("swamp")));
    }
}
