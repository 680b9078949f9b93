//! Random commands, faults and deaths. The harness checks the rules after every input; here it is checked that things end,
//! and that the harness notices a manager that skips the drain gate.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_types::{EnvironmentId, RolloutId};

use super::main_path::living_world;
use super::refusals::with_green;
use crate::environment::PhaseKind;
use crate::input::Command;
use crate::model::{Crash, Run, build, create, environment_id, green_start, policy};
use crate::rollback::Choice;
use crate::rollout::RolloutState;

/// Something that an operator or fate does.
#[derive(Debug, Clone)]
enum Deed {
    Wait(u8),
    Create(u8),
    Stage(u8),
    Verify(u8),
    Flip(u8),
    Rollback(u8),
    Freeze(bool),
    Drain(u8),
    Force(u8),
    Rollout(u8),
    Pause(u8),
    Resume(u8),
    Abort(u8, u8),
    Relabel(u8),
    Snapshot(u8),
    Retire(u8),
    Crash,
    CrashWithin(u8, u8),
    CutOff(u8),
    Faults(u8),
    Calm,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1..60_u8).prop_map(Deed::Wait),
        1 => any::<u8>().prop_map(Deed::Create),
        1 => any::<u8>().prop_map(Deed::Stage),
        1 => any::<u8>().prop_map(Deed::Verify),
        2 => any::<u8>().prop_map(Deed::Flip),
        1 => any::<u8>().prop_map(Deed::Rollback),
        1 => any::<bool>().prop_map(Deed::Freeze),
        1 => any::<u8>().prop_map(Deed::Drain),
        1 => any::<u8>().prop_map(Deed::Force),
        3 => any::<u8>().prop_map(Deed::Rollout),
        1 => any::<u8>().prop_map(Deed::Pause),
        1 => any::<u8>().prop_map(Deed::Resume),
        1 => any::<(u8, u8)>().prop_map(|(a, b)| Deed::Abort(a, b)),
        1 => any::<u8>().prop_map(Deed::Relabel),
        1 => any::<u8>().prop_map(Deed::Snapshot),
        1 => any::<u8>().prop_map(Deed::Retire),
        2 => Just(Deed::Crash),
        2 => any::<(u8, u8)>().prop_map(|(at, how)| Deed::CrashWithin(at, how)),
        1 => any::<u8>().prop_map(Deed::CutOff),
        1 => any::<u8>().prop_map(Deed::Faults),
        1 => Just(Deed::Calm),
    ]
}

fn pick<T: Clone>(all: &[T], n: u8) -> Option<T> {
    (!all.is_empty()).then(|| all[usize::from(n) % all.len()].clone())
}

fn environment(run: &Run, n: u8) -> Option<EnvironmentId> {
    pick(&run.realm.rows.environments.keys().cloned().collect::<Vec<_>>(), n)
}

fn rollout(run: &Run, n: u8) -> Option<RolloutId> {
    pick(&run.realm.rows.rollouts.keys().cloned().collect::<Vec<_>>(), n)
}

fn choice(n: u8) -> Choice {
    [Choice::Finish, Choice::NextBoundary, Choice::Force { deadline: Duration::from_secs(3) }, Choice::Freeze]
        [usize::from(n) % 4]
}

fn release(n: u8) -> crate::BuildInfo {
    build(&format!("2.{n}.0"), if n.is_multiple_of(3) { &[1, 2] } else { &[2, 1] })
}

/// The command of a deed; `None`: it is not a command, or there is nothing to do it to.
fn command(run: &Run, deed: &Deed) -> Option<Command> {
    let if_generation = None;
    let reason = String::new();
    Some(match deed {
        Deed::Create(n) => create(&format!("e{n}"), release(*n), None),
        Deed::Stage(n) => Command::Stage { environment: environment(run, *n)?, if_generation },
        Deed::Verify(n) => Command::Verify { environment: environment(run, *n)?, if_generation },
        Deed::Flip(n) => Command::Flip { to: environment(run, *n)?, if_generation, confirm: None, reason },
        Deed::Rollback(n) => Command::Rollback { to: None, choice: choice(*n), if_generation, reason },
        Deed::Freeze(frozen) => Command::Freeze { frozen: *frozen, reason },
        Deed::Drain(n) => {
            Command::StartDrain { environment: environment(run, *n)?, policy: policy(Duration::from_secs(10)) }
        }
        Deed::Force(n) => Command::ForceDrain {
            environment: environment(run, *n)?,
            deadline: Duration::from_secs(2),
            ignore_extensions: true,
        },
        Deed::Rollout(n) => {
            let number = u32::try_from(run.realm.rows.rollouts.len()).unwrap_or(0) + 1;
            Command::StartRollout(Box::new(green_start(number, release(*n))))
        }
        Deed::Pause(n) => Command::PauseRollout { rollout: rollout(run, *n)?, reason },
        Deed::Resume(n) => Command::ResumeRollout { rollout: rollout(run, *n)? },
        Deed::Abort(n, c) => Command::AbortRollout { rollout: rollout(run, *n)?, reason, choice: choice(*c) },
        Deed::Relabel(n) => Command::Relabel { environment: environment(run, *n)?, if_generation },
        Deed::Snapshot(n) => Command::Snapshot {
            environment: environment(run, *n)?,
            snapshot: format!("snap-{}", run.outcomes).parse().ok()?,
            if_generation,
        },
        Deed::Retire(n) => Command::Retire { environment: environment(run, *n)?, if_generation },
        Deed::Wait(_) | Deed::Crash | Deed::CrashWithin(..) | Deed::CutOff(_) | Deed::Faults(_) | Deed::Calm => {
            return None;
        }
    })
}

fn perform(run: &mut Run, deed: &Deed) {
    if let Some(command) = command(run, deed) {
        // Refused or not: the harness checks both.
        drop(run.command(command));
    }
    match deed {
        Deed::Wait(ticks) => (0..*ticks).for_each(|_| run.tick()),
        Deed::Crash => run.crash(),
        Deed::CrashWithin(at, how) => {
            let crash = match how % 3 {
                0 => Crash::BeforeWrite,
                1 => Crash::BeforeEffects,
                _ => Crash::AfterEffects(1),
            };
            run.crash_at = Some((run.outcomes + 1 + u64::from(at % 8), crash));
        }
        Deed::CutOff(n) => run.world.cut_off(usize::from(*n) % 2, run.now + Duration::from_millis(u64::from(*n) * 100)),
        Deed::Faults(n) => {
            let faults = &mut run.world.faults;
            faults.crashes = u32::from(n % 4);
            faults.deaf = u32::from(n % 8);
            faults.moves_fail = u32::from(*n);
            faults.silent = u32::from(*n);
            faults.snapshot_failures = u32::from(n % 3);
            faults.clone_failures = u32::from(n % 2);
        }
        Deed::Calm => run.world.calm(),
        _ => {}
    }
    run.tick();
}

/// In a fair world, with an operator who resumes what is paused, everything ends.
fn everything_ends(run: &mut Run) {
    run.world.calm();
    run.world.arrivals = 0;
    for _ in 0..12 {
        drop(run.command(Command::Freeze { frozen: false, reason: String::new() }));
        let paused: Vec<RolloutId> = run
            .realm
            .rows
            .rollouts
            .values()
            .filter(|r| r.state == RolloutState::Paused)
            .map(|r| r.id.clone())
            .collect();
        for rollout in paused {
            run.command(Command::ResumeRollout { rollout }).expect("what is paused can be resumed");
        }
        let over = |run: &Run| {
            run.realm.rows.rollouts.values().all(|r| r.state.is_terminal() || r.state == RolloutState::Paused)
        };
        assert!(run.wait(over), "a rollout hangs: {:#?}", run.realm.rows.rollouts);
        if run.realm.rows.rollouts.values().all(|r| r.state.is_terminal()) {
            break;
        }
    }
    let open: Vec<_> = run.realm.rows.rollouts.values().filter(|r| !r.state.is_terminal()).collect();
    assert!(open.is_empty(), "a rollout does not end: {open:#?}");
    let quiet = |run: &Run| run.realm.rows.environments.values().all(|e| e.phase.kind() != PhaseKind::Draining);
    assert!(run.wait(quiet), "a drain does not end: {:#?}", run.realm.rows.drains);
}

proptest! {
    // Each case is a world with a hundred players for some minutes of its time; 64 of them take about as long as a build.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_is_done(seed in any::<u64>(), deeds in prop::collection::vec(deed(), 1..40)) {
        let mut run = living_world(seed);
        for deed in &deeds {
            perform(&mut run, deed);
        }
        everything_ends(&mut run);
    }
}

#[test]
fn a_manager_that_skips_the_drain_gate_is_caught() {
    let caught = std::panic::catch_unwind(|| {
        let mut run = living_world(1);
        run.realm.sabotage.skip_drain_gate = true;
        let start = green_start(1, build("2.0.0", &[1, 2]));
        let id = start.id.clone();
        run.command(Command::StartRollout(Box::new(start))).unwrap();
        run.wait_rollout(&id)
    });
    let message = *caught.expect_err("nobody noticed").downcast::<String>().unwrap();
    assert!(message.contains("blue-1 counts as drained with players inside"), "{message}");
}

#[test]
fn a_manager_that_does_not_wait_for_the_gateways_is_caught() {
    let deaf = |skip_ack_wait: bool| {
        let mut run = with_green(1);
        run.world.empty();
        run.world.arrivals = 0;
        run.realm.sabotage.skip_ack_wait = skip_ack_wait;
        run.world.cut_off(1, run.now + Duration::from_secs(20));
        let to = environment_id("green-1");
        run.command(Command::Flip { to, if_generation: None, confirm: None, reason: String::new() }).unwrap();
        (0..8).for_each(|_| run.tick());
        run.world.arrivals = 10;
        (0..100).for_each(|_| run.tick());
    };
    deaf(false);
    let caught = std::panic::catch_unwind(|| deaf(true));
    let message = *caught.expect_err("nobody noticed").downcast::<String>().unwrap();
    assert!(message.contains("blue-1 got players although it is drained"), "{message}");
}
