//! Where all sessions write: live figures while they play, their findings when they end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use tidegate_types::{Cause, EnvironmentId};

use crate::control::Live;
use crate::ledger::Findings;
use crate::report::{End, HandoverMs, Latencies, Latency, Report, SessionRecord};

/// The books of one simulation. Every lock is held for some additions only.
#[derive(Default)]
pub(crate) struct Books {
    page: Mutex<Page>,
}

/// What stands in the books.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) live: Live,
    pub(crate) latencies: Latencies,
    /// Round trips since the live figures were last taken.
    recent: Option<Histogram<u64>>,
    findings: Findings,
    records: Vec<SessionRecord>,
    ended_by: BTreeMap<&'static str, u64>,
    moved_by: BTreeMap<&'static str, u64>,
    refused: BTreeMap<String, u64>,
    /// What each character received of others less what it gave them, by the givers' answers.
    gifts: BTreeMap<String, i64>,
    pub(crate) login_retries: u64,
    pub(crate) login_gave_up: u64,
    pub(crate) moved_while_away: u64,
    pub(crate) resumed: u64,
    pub(crate) resumed_same_home: u64,
    pub(crate) relocated: u64,
    pub(crate) gaps: u64,
    pub(crate) holds: u64,
    pub(crate) notices: u64,
}

impl Books {
    pub(crate) fn open(&self) -> MutexGuard<'_, Page> {
        // Every change is a few additions; what a panicking thread left is still right.
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Page {
    /// A session is in play.
    pub(crate) fn began(&mut self, environment: &EnvironmentId) {
        self.live.sessions_started += 1;
        self.live.population += 1;
        *self.live.playing.entry(environment.to_string()).or_default() += 1;
    }

    /// A session plays elsewhere now.
    pub(crate) fn went(&mut self, from: &EnvironmentId, to: &EnvironmentId) {
        if from != to {
            self.leaves(from);
            *self.live.playing.entry(to.to_string()).or_default() += 1;
        }
    }

    fn leaves(&mut self, environment: &EnvironmentId) {
        if let Some(count) = self.live.playing.get_mut(environment.as_str()) {
            *count = count.saturating_sub(1);
        }
    }

    pub(crate) fn moved(&mut self, cause: Cause) {
        self.live.moved += 1;
        *self.moved_by.entry(cause.as_str()).or_default() += 1;
    }

    pub(crate) fn refused(&mut self, word: &str) {
        // Words come from the world; a world that invents them must not fill the memory.
        if self.refused.len() < 100 || self.refused.contains_key(word) {
            *self.refused.entry(word.to_owned()).or_default() += 1;
        }
    }

    /// Gold changed hands.
    pub(crate) fn gave(&mut self, from: &str, to: &str, gold: u64) {
        let gold = i64::try_from(gold).unwrap_or(i64::MAX);
        *self.gifts.entry(from.to_owned()).or_default() -= gold;
        *self.gifts.entry(to.to_owned()).or_default() += gold;
    }

    /// What a character must own that began with so much.
    pub(crate) fn wealth(&self, character: &str, began_with: u64) -> u64 {
        began_with.saturating_add_signed(self.gifts.get(character).copied().unwrap_or(0))
    }

    /// An action was answered after this time.
    pub(crate) fn answered(&mut self, took: std::time::Duration) {
        self.live.actions_answered += 1;
        crate::report::record_time(&mut self.latencies.action, took);
        let recent = self.recent.get_or_insert_with(|| Latencies::default().action);
        crate::report::record_time(recent, took);
    }

    /// A session is over.
    pub(crate) fn ended(&mut self, record: SessionRecord, end: End, findings: &Findings) {
        self.live.sessions_ended += 1;
        self.live.population = self.live.population.saturating_sub(1);
        let last = record.last_environment().clone();
        self.leaves(&last);
        self.live.lost += u64::from(end == End::Lost);
        self.live.broken_promises += u64::from(end == End::Lost);
        *self.ended_by.entry(end.as_str()).or_default() += 1;
        self.records.push(record);
        self.add(findings);
    }

    fn add(&mut self, findings: &Findings) {
        let all = &mut self.findings;
        for (mine, theirs) in [
            (&mut all.sent, findings.sent),
            (&mut all.answered, findings.answered),
            (&mut all.lost, findings.lost),
            (&mut all.duplicated, findings.duplicated),
            (&mut all.reordered, findings.reordered),
            (&mut all.repeated, findings.repeated),
            (&mut all.double_homed, findings.double_homed),
            (&mut all.unannounced_home, findings.unannounced_home),
            (&mut all.moved_without_cause, findings.moved_without_cause),
            (&mut all.gold_vanished, findings.gold_vanished),
        ] {
            *mine += theirs;
        }
    }

    /// The live figures; begins a new second.
    pub(crate) fn take_live(&mut self) -> Live {
        if let Some(recent) = self.recent.take() {
            self.live.action_p50_us = recent.value_at_quantile(0.5);
            self.live.action_p99_us = recent.value_at_quantile(0.99);
        }
        self.live.clone()
    }

    /// The report, as far as sessions know it.
    pub(crate) fn report(&mut self) -> Report {
        let found = self.findings;
        let handover_us = Latency::from(&self.latencies.handover);
        let ms = |us: u64| us as f64 / 1_000.0;
        Report {
            sessions_started: self.live.sessions_started,
            ended_by: self.ended_by.clone(),
            login_retries: self.login_retries,
            login_gave_up: self.login_gave_up,
            lost: self.live.lost,
            double_homed: found.double_homed,
            unannounced_home: found.unannounced_home,
            moved_without_cause: found.moved_without_cause,
            gold_vanished: found.gold_vanished,
            moved_by: self.moved_by.clone(),
            moved_while_away: self.moved_while_away,
            frames_sent: found.sent,
            frames_answered: found.answered,
            frames_lost: found.lost,
            frames_duplicated: found.duplicated,
            frames_reordered: found.reordered,
            frames_repeated: found.repeated,
            actions_refused: self.refused.clone(),
            resumed: self.resumed,
            resumed_same_home: self.resumed_same_home,
            relocated: self.relocated,
            gaps: self.gaps,
            holds: self.holds,
            notices: self.notices,
            datagrams_sent: self.live.datagrams_sent,
            datagrams_received: self.live.datagrams_received,
            action_us: Latency::from(&self.latencies.action),
            datagram_us: Latency::from(&self.latencies.datagram),
            login_us: Latency::from(&self.latencies.login),
            resume_us: Latency::from(&self.latencies.resume),
            relocation_us: Latency::from(&self.latencies.relocation),
            handover_ms: HandoverMs { p50: ms(handover_us.p50), p99: ms(handover_us.p99), max: ms(handover_us.max) },
            handover_us,
            records: std::mem::take(&mut self.records),
            ..Report::default()
        }
    }
}
