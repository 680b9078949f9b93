//! The checklist before a rollout: one line an item, pass, fail or warning, and why.
//!
//! A warning stops nothing, but the operator should know now: that rolling back will be refused, for example.

use std::collections::BTreeSet;

use tidegate_types::{RolloutId, Timestamp, ZoneId};

use crate::environment::{Environment, Label, Phase};
use crate::input::Check;
use crate::realm::Realm;
use crate::rollout::RolloutSpec;
use crate::spec::BuildInfo;

impl Realm {
    /// Checks whether `spec` could be rolled out now. `me` is the rollout that asks, if it exists already.
    #[must_use]
    pub fn preflight(&self, now: Timestamp, spec: &RolloutSpec, me: Option<&RolloutId>) -> Vec<Check> {
        let mut checks = vec![self.check_other_rollout(me), self.check_flip(), self.check_window(now)];
        checks.push(check_version(&spec.build));
        checks.push(check_clients(&spec.build));
        let Some(blue) = self.accepting() else {
            checks.push(fail("blue", "the realm has no accepting environment to roll from"));
            return checks;
        };
        checks.push(pass("blue", format!("environment {} (build {}) has the players", blue.id, blue.build.version)));
        checks.push(self.check_green(spec));
        checks.push(self.check_capacity(blue, spec));
        checks.push(self.check_places(blue, spec));
        checks.push(check_schema(&blue.build, &spec.build));
        checks.push(check_state_forward(&blue.build, &spec.build));
        checks.push(check_state_back(&blue.build, &spec.build));
        checks.push(self.check_snapshot(blue));
        checks.push(self.check_gateways());
        checks
    }

    fn check_other_rollout(&self, me: Option<&RolloutId>) -> Check {
        match self.rollout_before_flip().filter(|r| Some(&r.id) != me) {
            Some(other) => fail("rollout", format!("rollout {} has not flipped yet", other.id)),
            None => pass("rollout", "no other rollout is on its way to a flip"),
        }
    }

    fn check_flip(&self) -> Check {
        match &self.rows.routing.flip {
            Some(flip) if self.rows.routing.flip_awaits() => {
                warn("flip", format!("the flip to {} still waits for the gateways; this one comes after it", flip.to))
            }
            Some(_) | None if self.rows.routing.frozen.is_some() => fail("flip", "the realm is frozen"),
            Some(_) | None => pass("flip", "no other flip is running"),
        }
    }

    fn check_window(&self, now: Timestamp) -> Check {
        match self.rows.spec.freeze_window(now) {
            Some(window) => fail("freeze_window", format!("nothing may flip now: {}", window.reason)),
            None => pass("freeze_window", "now is not inside a freeze window"),
        }
    }

    fn idle_green(&self, spec: &RolloutSpec) -> Option<&Environment> {
        self.labelled(Label::Green).filter(|e| !e.was_active && e.build == spec.build && e.phase != Phase::Failed)
    }

    fn check_green(&self, spec: &RolloutSpec) -> Check {
        match self.idle_green(spec) {
            Some(green) => pass("green", format!("environment {} ({}) will be used", green.id, green.phase.kind())),
            None => pass("green", format!("an environment of build {} will be created", spec.build.version)),
        }
    }

    fn check_capacity(&self, blue: &Environment, spec: &RolloutSpec) -> Check {
        let room = self.idle_green(spec).unwrap_or(blue).room();
        let sessions = u64::from(self.observed.session_count(&blue.id));
        if room < sessions {
            return fail("capacity", format!("green has room for {room} players, and {sessions} are there"));
        }
        if !self.observed.sessions_known() {
            return warn("capacity", format!("green has room for {room} players; how many are there is not known now"));
        }
        pass("capacity", format!("green has room for {room} players, {sessions} are there"))
    }

    fn check_places(&self, blue: &Environment, spec: &RolloutSpec) -> Check {
        let green: BTreeSet<&ZoneId> = self.idle_green(spec).unwrap_or(blue).places().collect();
        match blue.places().find(|place| !green.contains(place)) {
            Some(missing) => fail("zones", format!("no fleet of green has {missing}, which blue has")),
            None => pass("zones", "green has every zone and instance kind that blue has"),
        }
    }

    fn check_snapshot(&self, blue: &Environment) -> Check {
        let restorable = self.rows.snapshots.values().filter(|s| s.environment == blue.id && s.is_restorable());
        match restorable.max_by_key(|s| s.created) {
            Some(snapshot) => pass("snapshot", format!("snapshot {} of blue was read back whole", snapshot.id)),
            None => {
                warn("snapshot", "there is no verified snapshot of blue: what goes wrong cannot be restored from one")
            }
        }
    }

    fn check_gateways(&self) -> Check {
        let Some(report) = &self.observed.occupancy else {
            return warn("gateways", "no gateway has reported yet");
        };
        match report.gateways.iter().find(|g| !g.connected) {
            Some(away) => {
                warn("gateways", format!("gateway {} is not connected: the drain cannot end without it", away.id))
            }
            None => pass("gateways", format!("{} gateways are connected", report.gateways.len())),
        }
    }
}

fn check_version(build: &BuildInfo) -> Check {
    match semver::Version::parse(build.version.as_str()) {
        Ok(_) => pass("build", format!("build {} is registered", build.version)),
        Err(error) => fail("build", format!("build {} is not a version: {error}", build.version)),
    }
}

fn check_clients(build: &BuildInfo) -> Check {
    if build.client_versions.is_empty() {
        return pass("clients", "every client version is admitted");
    }
    match semver::VersionReq::parse(&build.client_versions) {
        Ok(requirement) => pass("clients", format!("client versions {requirement} are admitted")),
        Err(error) => fail("clients", format!("\"{}\" is not a version requirement: {error}", build.client_versions)),
    }
}

fn check_schema(blue: &BuildInfo, green: &BuildInfo) -> Check {
    if green.shares_schema_with(blue) {
        pass("schema", "both builds work with the database as it is")
    } else {
        fail("schema", format!("{} and {} have no schema version in common", blue.version, green.version))
    }
}

fn check_state_forward(blue: &BuildInfo, green: &BuildInfo) -> Check {
    let format = blue.state_format_write;
    if green.reads_state_of(blue) {
        pass("state_forward", format!("{} reads player state of format {format}", green.version))
    } else {
        fail("state_forward", format!("{} cannot read format {format}, which {} writes", green.version, blue.version))
    }
}

fn check_state_back(blue: &BuildInfo, green: &BuildInfo) -> Check {
    let format = green.state_format_write;
    if blue.reads_state_of(green) {
        pass("state_back", format!("{} reads player state of format {format}: rolling back is possible", blue.version))
    } else {
        let why = format!(
            "{} cannot read format {format}, which {} writes: after the flip, rolling back will be refused (only freeze)",
            blue.version, green.version
        );
        warn("state_back", why)
    }
}

fn pass(name: &str, why: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: true, warning: false, why: why.into() }
}

fn warn(name: &str, why: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: false, warning: true, why: why.into() }
}

fn fail(name: &str, why: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: false, warning: false, why: why.into() }
}
