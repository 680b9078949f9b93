//! Whatever a realm holds, its rows say the same when they are read back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleet_core::drain::{AtDeadline, Departure, DrainState, Policy};
use fleet_core::environment::{Label, Phase, RouteServer, Source};
use fleet_core::input::Check;
use fleet_core::rollback::Choice;
use fleet_core::rollout::{RolloutSpec, RolloutState, Step, StepName, StepState};
use fleet_core::routing::{FlipRecord, FlipState, Freeze};
use fleet_core::snapshot::{SnapshotFacts, SnapshotState};
use fleet_core::spec::{BoundaryPolicy, BuildInfo, FreezeWindow};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use tidegate_types::{Cause, Generation, InstanceId, InvalidId, Timestamp};

use super::*;

fn id<T: std::str::FromStr<Err = InvalidId> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z0-9][a-z0-9./-]{0,12}".prop_map(|text| text.parse().expect("is an id"))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), any::<String>()]
}

fn at() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn ms() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn generation() -> impl Strategy<Value = Generation> {
    any::<u64>().prop_map(Generation)
}

fn build() -> impl Strategy<Value = BuildInfo> {
    (id(), option::of(any::<[u8; 32]>()), vec(any::<u32>(), 0..3), any::<u32>(), vec(any::<u32>(), 0..3), text())
        .prop_map(
            |(version, assets_digest, state_formats_read, state_format_write, schema_versions, client_versions)| {
                BuildInfo {
                    version,
                    assets_digest,
                    state_formats_read,
                    state_format_write,
                    schema_versions,
                    client_versions,
                }
            },
        )
}

fn policy() -> impl Strategy<Value = Policy> {
    let at_deadline = select(vec![AtDeadline::Move, AtDeadline::Kick, AtDeadline::Stay]);
    let extensions = btree_map(text(), ms(), 0..3);
    (option::of(ms()), at_deadline, vec(ms(), 0..3), text(), extensions, any::<u32>()).prop_map(
        |(deadline, at_deadline, notices, notice_text, extensions, moves_per_second)| Policy {
            deadline,
            at_deadline,
            notices,
            notice_text,
            extensions,
            moves_per_second,
        },
    )
}

fn fleets() -> impl Strategy<Value = Vec<Fleet>> {
    let environment = btree_map(text(), text(), 0..3);
    let fleet = (id(), any::<u32>(), vec(id(), 0..3), vec(id(), 0..3), any::<u32>(), environment).prop_map(
        |(name, replicas, zones, instance_kinds, capacity, environment)| Fleet {
            name,
            replicas,
            zones,
            instance_kinds,
            capacity,
            environment,
        },
    );
    // Names are unique, and the rows come back in their order.
    vec(fleet, 0..3).prop_map(|fleets| {
        let unique: BTreeMap<_, _> = fleets.into_iter().map(|fleet| (fleet.name.clone(), fleet)).collect();
        unique.into_values().collect()
    })
}

fn route_server() -> impl Strategy<Value = RouteServer> {
    let places = (vec(id(), 0..2), vec(id(), 0..2));
    (id(), any::<u128>(), text(), text(), places, any::<u32>(), any::<bool>()).prop_map(
        |(id, instance, address, tls_name, (zones, instance_kinds), capacity, ready)| RouteServer {
            id,
            instance: InstanceId(uuid::Uuid::from_u128(instance)),
            address,
            tls_name,
            zones,
            instance_kinds,
            capacity,
            ready,
        },
    )
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        select(vec![Phase::Provisioning, Phase::Staging, Phase::Staged, Phase::Ready, Phase::Active]),
        select(vec![Phase::Draining, Phase::Drained, Phase::Failed]),
        any::<u32>().prop_map(|attempt| Phase::Verifying { attempt }),
        any::<bool>().prop_map(|stopped| Phase::Retired { stopped }),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(Source::Empty),
        id().prop_map(|snapshot| Source::Cloned { snapshot }),
        (id(), id(), any::<bool>(), any::<u32>()).prop_map(|(snapshot, realm, restore_database, attempt)| {
            Source::Cloning { snapshot, realm, restore_database, attempt }
        }),
    ]
}

fn environment() -> impl Strategy<Value = Environment> {
    let label = option::of(select(vec![Label::Blue, Label::Green]));
    let rest = (any::<bool>(), vec(route_server(), 0..3), any::<u32>(), at(), generation());
    (id(), build(), label, phase(), at(), text(), fleets(), source(), rest).prop_map(
        |(id, build, label, phase, since, reason, fleets, source, rest)| {
            let (was_active, servers, verify_attempts, created, generation) = rest;
            Environment {
                id,
                build,
                label,
                phase,
                since,
                reason,
                fleets,
                source,
                was_active,
                servers: servers.into_iter().map(|server| (server.id.clone(), server)).collect(),
                verify_attempts,
                created,
                generation,
            }
        },
    )
}

fn cause() -> impl Strategy<Value = Cause> {
    select(Cause::ALL.to_vec())
}

fn departure() -> impl Strategy<Value = Departure> {
    prop_oneof![
        select(vec![Departure::Logout, Departure::GraceOver, Departure::Kicked, Departure::Other]),
        cause().prop_map(Departure::Moved),
    ]
}

fn drain() -> impl Strategy<Value = Drain> {
    let state = select(vec![DrainState::Running, DrainState::Forcing, DrainState::Completed, DrainState::Cancelled]);
    let counts =
        (any::<u32>(), btree_map(departure(), any::<u32>(), 0..4), btree_set(any::<u64>(), 0..3), any::<u64>());
    let times = (at(), option::of(at()), option::of(at()));
    (id(), state, policy(), any::<bool>(), cause(), times, any::<bool>(), generation(), counts).prop_map(
        |(environment, state, policy, policy_given, cause, times, ignore_extensions, generation, counts)| {
            let (started, deadline, ended) = times;
            let (initial, departed, notices_sent, commands) = counts;
            Drain {
                environment,
                state,
                policy,
                policy_given,
                cause,
                started,
                deadline,
                ignore_extensions,
                ended,
                initial,
                generation,
                departed,
                notices_sent,
                commands,
            }
        },
    )
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        select(vec![Choice::Finish, Choice::NextBoundary, Choice::Freeze]),
        ms().prop_map(|deadline| Choice::Force { deadline }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let name = select(StepName::ALL.to_vec());
    let state = select(vec![
        StepState::Pending,
        StepState::Running,
        StepState::Done,
        StepState::Failed,
        StepState::Skipped,
        StepState::Undone,
    ]);
    let check = (text(), any::<bool>(), any::<bool>(), text()).prop_map(|(name, ok, warning, why)| Check {
        name,
        ok,
        warning,
        why,
    });
    let times = (option::of(at()), option::of(at()), option::of(at()));
    (name, state, times, text(), vec(check, 0..3), any::<u32>()).prop_map(
        |(name, state, (started, ended, until), outcome, checks, attempts)| Step {
            name,
            state,
            started,
            ended,
            outcome,
            checks,
            attempts,
            until,
        },
    )
}

fn rollout() -> impl Strategy<Value = Rollout> {
    let spec = (build(), policy(), ms(), option::of(ms()), option::of(build()), any::<bool>(), text()).prop_map(
        |(build, drain, stable, stage_timeout, next_build, skip_clone, reason)| RolloutSpec {
            build,
            drain,
            stable,
            stage_timeout,
            next_build,
            skip_clone,
            reason,
        },
    );
    let state = prop_oneof![
        select(vec![RolloutState::Running, RolloutState::Paused, RolloutState::Completed]),
        select(vec![RolloutState::Failed, RolloutState::RolledBack]),
        (choice(), any::<bool>()).prop_map(|(choice, flipped_back)| RolloutState::Aborting { choice, flipped_back }),
    ];
    let ids = (option::of(id()), id(), id(), id(), option::of(id()));
    let flip = (option::of(generation()), option::of(any::<u64>()), option::of(at()));
    let rest = (text(), at(), option::of(at()), generation());
    (id(), spec, state, vec(step(), 0..3), ids, flip, rest).prop_map(|(id, spec, state, steps, ids, flip, rest)| {
        let (blue, green, next_green, snapshot, superseded_by) = ids;
        let (flip, flip_confirm_us, flip_confirmed) = flip;
        let (reason, started, ended, generation) = rest;
        Rollout {
            id,
            spec,
            state,
            steps,
            blue,
            green,
            next_green,
            snapshot,
            flip,
            flip_confirm_us,
            flip_confirmed,
            superseded_by,
            reason,
            started,
            ended,
            generation,
        }
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let facts = (at(), text(), any::<bool>(), at(), any::<u64>(), any::<u32>(), any::<u32>(), text()).prop_map(
        |(taken, digest, verified, verified_at, bytes, blobs, paused_ms, problem)| SnapshotFacts {
            taken,
            digest,
            verified,
            verified_at,
            bytes,
            blobs,
            paused_ms,
            problem,
        },
    );
    let state = prop_oneof![
        any::<u32>().prop_map(|attempt| SnapshotState::Taking { attempt }),
        facts.prop_map(SnapshotState::Stored),
        (any::<u32>(), text()).prop_map(|(attempt, reason)| SnapshotState::Failed { attempt, reason }),
        Just(SnapshotState::Deleted),
    ];
    (id(), id(), id(), state, at()).prop_map(|(id, environment, build, state, created)| Snapshot {
        id,
        environment,
        build,
        state,
        created,
    })
}

fn routing() -> impl Strategy<Value = Routing> {
    let state = prop_oneof![
        at().prop_map(|deadline| FlipState::Awaiting { deadline }),
        (at(), any::<u64>()).prop_map(|(at, confirm_us)| FlipState::Confirmed { at, confirm_us }),
        (vec(id(), 0..3), at()).prop_map(|(missing, deadline)| FlipState::Unconfirmed { missing, deadline }),
    ];
    let flip = (generation(), option::of(id()), id(), at(), ms(), state, text()).prop_map(
        |(generation, from, to, at, confirm, state, reason)| FlipRecord {
            generation,
            from,
            to,
            at,
            confirm,
            state,
            reason,
        },
    );
    let frozen = option::of((at(), text()).prop_map(|(since, reason)| Freeze { since, reason }));
    let accepting = (option::of(id()), option::of(id()));
    (generation(), accepting, frozen, any::<bool>(), btree_set(id(), 0..3), option::of(flip)).prop_map(
        |(generation, (accepting, previous), frozen, hold_pins, leave_at_boundary, flip)| Routing {
            generation,
            accepting,
            previous,
            frozen,
            hold_pins,
            leave_at_boundary,
            flip,
        },
    )
}

fn spec() -> impl Strategy<Value = RealmSpec> {
    let window = (at(), at(), text()).prop_map(|(from, to, reason)| FreezeWindow { from, to, reason });
    let boundaries = (any::<bool>(), any::<bool>(), any::<bool>());
    let rest = (text(), any::<bool>(), ms(), any::<u32>(), vec(window, 0..3), vec(ms(), 6));
    (id(), text(), at(), boundaries, rest).prop_map(|(entry_zone, database, created, boundaries, rest)| {
        let mut spec = RealmSpec::new(entry_zone, database, created);
        spec.boundaries = BoundaryPolicy { zone: boundaries.0, instance: boundaries.1, respawn: boundaries.2 };
        let (display_name, party_follow, grace, retain_drained, freeze_windows, limits) = rest;
        spec.limits.stage = limits[0];
        spec.limits.verify = limits[1];
        spec.limits.flip_wait = limits[2];
        spec.limits.confirm = limits[3];
        spec.limits.retry = limits[4];
        spec.limits.move_retry = limits[5];
        RealmSpec { display_name, party_follow, grace, retain_drained, freeze_windows, ..spec }
    })
}

fn realm() -> impl Strategy<Value = Realm> {
    let lists = (vec(environment(), 0..3), vec(drain(), 0..3), vec(rollout(), 0..2), vec(snapshot(), 0..3));
    (id(), spec(), routing(), lists).prop_map(|(id, spec, routing, (environments, drains, rollouts, snapshots))| {
        let mut rows = Rows::new(id, spec);
        rows.routing = routing;
        rows.environments = environments.into_iter().map(|e| (e.id.clone(), e)).collect();
        rows.drains = drains.into_iter().map(|d| (d.environment.clone(), d)).collect();
        rows.rollouts = rollouts.into_iter().map(|r| (r.id.clone(), r)).collect();
        rows.snapshots = snapshots.into_iter().map(|s| (s.id.clone(), s)).collect();
        Realm::load(rows)
    })
}

/// Every change that would write the whole realm.
fn all(rows: &Rows) -> BTreeSet<Change> {
    let mut changes = BTreeSet::from([Change::Realm, Change::Routing]);
    changes.extend(rows.environments.keys().cloned().map(Change::Environment));
    changes.extend(rows.drains.keys().cloned().map(Change::Drain));
    changes.extend(rows.rollouts.keys().cloned().map(Change::Rollout));
    changes.extend(rows.snapshots.keys().cloned().map(Change::Snapshot));
    changes
}

fn raw(writes: Vec<RowWrite>) -> Vec<RawRow> {
    let row = |w: RowWrite| Some(RawRow { table: w.table, key: w.key, realm: w.realm, body: w.body? });
    let mut rows: Vec<RawRow> = writes.into_iter().filter_map(row).collect();
    // As the store gives them.
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_realm_comes_back_as_it_was(realm in realm()) {
        let writes = all(&realm.rows).iter().flat_map(|change| writes(&realm, change)).collect();
        let mut loaded = load(&raw(writes)).unwrap();
        prop_assert_eq!(loaded.realms.remove(&realm.rows.id), Some(realm.rows));
    }

    #[test]
    fn a_build_comes_back_as_it_was(
        info in build(),
        command in vec(text(), 0..3),
        environment in btree_map(text(), text(), 0..3),
        assets_path in text(),
        created in at(),
    ) {
        let build = Build { info, command, environment, assets_path, created };
        let loaded = load(&raw(vec![build_row(&build)])).unwrap();
        prop_assert_eq!(loaded.builds, std::vec![build]);
    }
}

#[test]
fn a_row_that_cannot_be_read_is_named() {
    let row = |table, key: &str, realm: &str, body: &str| RawRow {
        table,
        key: key.into(),
        realm: realm.into(),
        body: body.into(),
    };
    for (rows, words) in [
        (vec![row(Table::Builds, "1.0.0", "", "{")], ["builds", "1.0.0"]),
        (vec![row(Table::Routing, "eu-1", "eu-1", "{}")], ["routing", "eu-1"]),
        (vec![row(Table::Drains, "e", "ghost", "{}")], ["drains", "e"]),
    ] {
        let error = load(&rows).unwrap_err();
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    }
}
