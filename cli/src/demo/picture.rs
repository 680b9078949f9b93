//! What the demo shows while it runs: bars on a terminal, plain lines elsewhere. All of it on stderr.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use simulated_players::Live;
use tidegate_proto::v1;

use crate::operator::drain::progress;
use crate::operator::rollout::current;
use crate::output::note;
use crate::words;

/// Shows what is going on.
pub(super) struct Picture {
    began: Instant,
    bars: Option<Bars>,
    state: RefCell<State>,
}

struct Bars {
    all: MultiProgress,
    step: ProgressBar,
    blue: ProgressBar,
    green: ProgressBar,
    drain: ProgressBar,
}

/// What was shown last, so that a plain line is only printed when something is new.
#[derive(Default)]
struct State {
    blue: String,
    green: String,
    lines: Vec<String>,
    second: u64,
}

impl Picture {
    pub(super) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let bar = |template: &str| {
                let style =
                    ProgressStyle::with_template(template).expect("the template is constant").progress_chars("█▌ ");
                all.add(ProgressBar::new(0).with_style(style))
            };
            let step = bar("{spinner} {elapsed} {msg}");
            step.enable_steady_tick(std::time::Duration::from_millis(120));
            let blue = bar("  blue  [{bar:40.blue}] {pos:>5} players  {msg}");
            let green = bar("  green [{bar:40.green}] {pos:>5} players  {msg}");
            let drain = bar("  drain [{bar:40.yellow}] {pos}/{len} gone  {msg}");
            Bars { all, step, blue, green, drain }
        });
        Self { began: Instant::now(), bars, state: RefCell::default() }
    }

    /// What happens now.
    pub(super) fn step(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.step.set_message(text.to_owned()),
            None => self.line(text),
        }
    }

    /// The players' own live figures.
    pub(super) fn players(&self, live: &Live) {
        let mut state = self.state.borrow_mut();
        let at = |env: &str| u64::from(live.playing.get(env).copied().unwrap_or(0));
        let (blue, green) =
            if state.blue.is_empty() { (u64::from(live.population), 0) } else { (at(&state.blue), at(&state.green)) };
        match &self.bars {
            Some(bars) => {
                let most = bars.blue.length().unwrap_or(0).max(blue + green);
                for (bar, count) in [(&bars.blue, blue), (&bars.green, green)] {
                    bar.set_length(most);
                    bar.set_position(count);
                }
                bars.green.set_message(format!(
                    "{} moved, p99 {}, broken promises {}",
                    live.moved,
                    words::span(live.action_p99_us / 1_000),
                    live.broken_promises
                ));
            }
            None => {
                let second = self.began.elapsed().as_secs();
                if second > state.second {
                    state.second = second;
                    drop(state);
                    self.line(&format!(
                        "  players: blue {blue}, green {green}; {} moved, broken promises {}",
                        live.moved, live.broken_promises
                    ));
                }
            }
        }
    }

    /// The rollout's step tree, as far as it changed.
    pub(super) fn rollout(&self, rollout: &v1::Rollout) {
        {
            let mut state = self.state.borrow_mut();
            state.blue.clone_from(&rollout.blue);
            state.green.clone_from(&rollout.green);
        }
        if let (Some(bars), Some(step)) = (&self.bars, current(rollout)) {
            bars.step.set_message(format!("rollout: {}  {}", step.name, step.outcome));
        }
        for step in &rollout.steps {
            if step.state == v1::StepState::Pending as i32
                || step.state == v1::StepState::Running as i32 && self.bars.is_some()
            {
                continue;
            }
            let line = format!("rollout: {:13} {:7} {}", step.name, words::step_state(step.state), step.outcome);
            let line = line.trim_end().to_owned();
            if self.state.borrow().lines.contains(&line) {
                continue;
            }
            match &self.bars {
                Some(bars) => {
                    let _ = bars.all.println(format!("  {line}"));
                }
                None => self.line(&line),
            }
            self.state.borrow_mut().lines.push(line);
        }
    }

    /// How far the drain is.
    pub(super) fn drain(&self, drain: &v1::Drain) {
        let gone = drain.initial.saturating_sub(drain.remaining);
        match &self.bars {
            Some(bars) => {
                bars.drain.set_length(u64::from(drain.initial));
                bars.drain.set_position(u64::from(gone));
                bars.drain.set_message(progress(drain));
            }
            None => {
                let second = self.began.elapsed().as_secs();
                let mut state = self.state.borrow_mut();
                if second > state.second && drain.ended_ms == 0 {
                    state.second = second;
                    drop(state);
                    self.line(&format!("  drain: {gone} of {} gone, {}", drain.initial, progress(drain)));
                }
            }
        }
    }

    /// Leaves the screen as it is.
    pub(super) fn end(&self) {
        if let Some(bars) = &self.bars {
            bars.step.finish_with_message("done");
            for bar in [&bars.blue, &bars.green, &bars.drain] {
                bar.abandon();
            }
            note("");
        }
    }

    fn line(&self, text: &str) {
        note(&format!("{:5.1}s  {text}", self.began.elapsed().as_secs_f64()));
    }
}
