//! Drains and their policies.

use std::time::Duration;

use fleet_core::drain::explain::Holder;
use fleet_core::drain::progress::DrainView;
use fleet_core::drain::{AtDeadline, DrainState, Policy};
use tidegate_proto::convert::BadField;
use tidegate_proto::v1;
use tidegate_types::RealmId;

use super::{millis, moment};

/// Most warnings of one drain.
const MOST_NOTICES: usize = 20;

/// Longest warning, in bytes: it is sent to every player left.
const LONGEST_NOTICE: usize = 2_000;

/// A drain and how far it is.
#[must_use]
pub fn message(realm: &RealmId, view: &DrainView) -> v1::Drain {
    let drain = &view.drain;
    let state = match drain.state {
        DrainState::Running => v1::DrainState::Running,
        DrainState::Forcing => v1::DrainState::Forcing,
        DrainState::Completed => v1::DrainState::Completed,
        DrainState::Cancelled => v1::DrainState::Cancelled,
    };
    v1::Drain {
        environment_id: drain.environment.to_string(),
        realm: realm.to_string(),
        state: state.into(),
        policy: Some(policy(&drain.policy)),
        started_ms: drain.started.0,
        deadline_at_ms: moment(drain.deadline),
        ended_ms: moment(drain.ended),
        initial: drain.initial,
        remaining: view.remaining,
        known: view.known,
        waiting_for: view.waiting_for.clone(),
        departed: drain.departed.iter().map(|(how, n)| (how.as_str().to_owned(), *n)).collect(),
        remaining_by_zone: view.by_zone.iter().map(|(zone, n)| (zone.to_string(), *n)).collect(),
        remaining_by_kind: view.by_kind.iter().map(|(kind, n)| (kind.clone(), *n)).collect(),
        idle_under_1m: view.idle_under_1m,
        idle_under_10m: view.idle_under_10m,
        idle_longer: view.idle_longer,
        departures_per_minute: view.departures_per_minute,
        estimated_end_ms: moment(view.estimated_end),
        notices_sent: u32::try_from(drain.notices_sent.len()).unwrap_or(u32::MAX),
    }
}

/// A policy.
#[must_use]
pub fn policy(policy: &Policy) -> v1::DrainPolicy {
    let at_deadline = match policy.at_deadline {
        AtDeadline::Move => v1::AtDeadline::Move,
        AtDeadline::Kick => v1::AtDeadline::Kick,
        AtDeadline::Stay => v1::AtDeadline::Stay,
    };
    v1::DrainPolicy {
        deadline_ms: policy.deadline.map(millis),
        at_deadline: at_deadline.into(),
        notices_ms: policy.notices.iter().copied().map(millis).collect(),
        notice_text: policy.notice_text.clone(),
        extensions_ms: policy.extensions.iter().map(|(kind, more)| (kind.clone(), millis(*more))).collect(),
        moves_per_second: policy.moves_per_second,
    }
}

/// A policy of a request; none is natural attrition for ever.
///
/// # Errors
/// The field that cannot be.
pub fn read_policy(policy: Option<v1::DrainPolicy>) -> Result<Policy, BadField> {
    let Some(policy) = policy else { return Ok(Policy::natural()) };
    let at_deadline = match v1::AtDeadline::try_from(policy.at_deadline) {
        Ok(v1::AtDeadline::Move) => AtDeadline::Move,
        Ok(v1::AtDeadline::Kick) => AtDeadline::Kick,
        Ok(v1::AtDeadline::Stay) => AtDeadline::Stay,
        // Without a deadline it does not matter; with one, guessing what happens to players would be wrong.
        Ok(v1::AtDeadline::Unspecified) if policy.deadline_ms.is_none() => AtDeadline::Stay,
        Ok(v1::AtDeadline::Unspecified) => {
            return Err(BadField::new("policy.at_deadline", "is not set, but there is a deadline: move, kick or stay"));
        }
        Err(_) => {
            let why = format!("has the unknown value {}", policy.at_deadline);
            return Err(BadField::new("policy.at_deadline", why));
        }
    };
    if policy.notices_ms.len() > MOST_NOTICES {
        return Err(BadField::new("policy.notices_ms", format!("has more than {MOST_NOTICES} warnings")));
    }
    if !policy.notices_ms.is_empty() && policy.deadline_ms.is_none() {
        return Err(BadField::new("policy.notices_ms", "warns of a deadline, but there is none"));
    }
    if policy.notice_text.len() > LONGEST_NOTICE {
        return Err(BadField::new("policy.notice_text", format!("is longer than {LONGEST_NOTICE} bytes")));
    }
    Ok(Policy {
        deadline: policy.deadline_ms.map(Duration::from_millis),
        at_deadline,
        notices: policy.notices_ms.into_iter().map(Duration::from_millis).collect(),
        notice_text: policy.notice_text,
        extensions: policy.extensions_ms.into_iter().map(|(kind, ms)| (kind, Duration::from_millis(ms))).collect(),
        moves_per_second: policy.moves_per_second,
    })
}

/// One session that keeps an environment occupied.
#[must_use]
pub fn holder(holder: &Holder) -> v1::DrainHolder {
    v1::DrainHolder {
        session_id: holder.session.to_string(),
        player: holder.player.to_string(),
        server_id: holder.server.to_string(),
        zone: holder.zone.to_string(),
        zone_kind: holder.zone_kind.clone(),
        busy: holder.busy,
        idle_ms: millis(holder.idle),
        will_leave: holder.will_leave.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_the_wire() {
        let given = v1::DrainPolicy {
            deadline_ms: Some(60_000),
            at_deadline: v1::AtDeadline::Move.into(),
            notices_ms: vec![30_000, 10_000],
            notice_text: "soon".into(),
            extensions_ms: [("raid".to_owned(), 1_800_000)].into(),
            moves_per_second: 50,
        };
        assert_eq!(policy(&read_policy(Some(given.clone())).unwrap()), given);
        assert_eq!(read_policy(None).unwrap(), Policy::natural());
    }

    #[test]
    fn a_policy_that_would_have_to_guess_is_refused() {
        let deadline = v1::DrainPolicy { deadline_ms: Some(1), ..Default::default() };
        assert_eq!(read_policy(Some(deadline)).unwrap_err().field, "policy.at_deadline");
        let notices = v1::DrainPolicy { notices_ms: vec![1], ..Default::default() };
        assert_eq!(read_policy(Some(notices)).unwrap_err().field, "policy.notices_ms");
    }
}
