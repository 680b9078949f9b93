//! How far a drain is, measured: who is left where, how fast they leave, when it will end.
//!
//! The rate is the number of departures in a sliding window over the time it covers; below three departures there is no
//! estimate rather than a wild one.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_types::{EnvironmentId, Timestamp, ZoneId};

use crate::drain::gate::Occupancy;
use crate::drain::{AtDeadline, Drain};
use crate::observe::Observed;
use crate::realm::Realm;

/// How far back departures count.
pub const WINDOW: Duration = Duration::from_secs(300);

/// Fewer departures than this say nothing about the next ones.
const FEWEST: u32 = 3;

/// A drain and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct DrainView {
    /// The drain's row.
    pub drain: Drain,
    /// Sessions left, as far as known.
    pub remaining: u32,
    /// False: some count is unknown, and the environment counts as occupied.
    pub known: bool,
    /// Why it is not complete, apart from sessions.
    pub waiting_for: Vec<String>,
    /// Sessions left by zone.
    pub by_zone: BTreeMap<ZoneId, u32>,
    /// Sessions left by zone kind.
    pub by_kind: BTreeMap<String, u32>,
    /// Sessions idle for less than a minute.
    pub idle_under_1m: u32,
    /// Sessions idle for a minute to ten.
    pub idle_under_10m: u32,
    /// Sessions idle for longer.
    pub idle_longer: u32,
    /// Departures a minute over the last minutes.
    pub departures_per_minute: f64,
    /// When it will be empty at this rate, or by force; `None`: nobody can say.
    pub estimated_end: Option<Timestamp>,
}

impl Observed {
    pub(crate) fn note_departure(&mut self, environment: &EnvironmentId, at: Timestamp) {
        let window = self.departures.entry(environment.clone()).or_default();
        // One entry a second keeps the window at 300 entries however many leave.
        match window.back_mut() {
            Some((last, count)) if at.since(*last) < Duration::from_secs(1) => *count += 1,
            Some(_) | None => window.push_back((at, 1)),
        }
        while window.front().is_some_and(|(first, _)| at.since(*first) > WINDOW) {
            window.pop_front();
        }
    }
}

impl Realm {
    /// The drain of `id` and how far it is; `None`: it never drained.
    #[must_use]
    pub fn drain_view(&self, id: &EnvironmentId, now: Timestamp) -> Option<DrainView> {
        let drain = self.rows.drains.get(id)?.clone();
        let (remaining, waiting_for) = match self.occupancy_of(id) {
            Occupancy::Empty(_) => (0, Vec::new()),
            Occupancy::Occupied { sessions, waiting_for } => (sessions, waiting_for),
        };
        let live = drain.state.is_live();
        let mut view = DrainView {
            remaining: if live { remaining } else { 0 },
            known: !live || self.observed.sessions_known(),
            waiting_for: if live { waiting_for } else { Vec::new() },
            by_zone: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            idle_under_1m: 0,
            idle_under_10m: 0,
            idle_longer: 0,
            departures_per_minute: 0.0,
            estimated_end: None,
            drain,
        };
        if live {
            self.measure(&mut view, now);
        }
        Some(view)
    }

    fn measure(&self, view: &mut DrainView, now: Timestamp) {
        let id = &view.drain.environment;
        for session in self.observed.sessions(id) {
            *view.by_zone.entry(session.zone.clone()).or_default() += 1;
            *view.by_kind.entry(session.zone_kind.clone()).or_default() += 1;
            match now.since(session.active).as_secs() {
                0..60 => view.idle_under_1m += 1,
                60..600 => view.idle_under_10m += 1,
                _ => view.idle_longer += 1,
            }
        }
        let recent = self.observed.departures.get(id).into_iter().flatten();
        let recent: Vec<(Timestamp, u32)> = recent.copied().filter(|(at, _)| now.since(*at) <= WINDOW).collect();
        let count: u32 = recent.iter().map(|(_, count)| count).sum();
        let covered = recent.first().map_or(Duration::ZERO, |(first, _)| now.since(*first)).max(Duration::from_secs(1));
        let per_second = if count == 0 { 0.0 } else { f64::from(count) / covered.as_secs_f64() };
        view.departures_per_minute = per_second * 60.0;
        let by_attrition = (count >= FEWEST && view.remaining > 0)
            .then(|| now + Duration::from_secs_f64((f64::from(view.remaining) / per_second).min(1e9)));
        view.estimated_end = match (by_attrition, by_force(&view.drain, view.remaining, now)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// When the last one is moved or ended at the latest.
fn by_force(drain: &Drain, remaining: u32, now: Timestamp) -> Option<Timestamp> {
    let deadline = drain.deadline.filter(|_| drain.policy.at_deadline != AtDeadline::Stay)?;
    let longest = drain.policy.extensions.values().max().copied().filter(|_| !drain.ignore_extensions);
    let batches = remaining.div_ceil(drain.policy.pace());
    Some(deadline.max(now) + longest.unwrap_or_default() + Duration::from_secs(u64::from(batches)))
}
