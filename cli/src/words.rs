//! Enums, times and durations as an operator reads and writes them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tidegate_proto::v1;

/// The enum's name without its prefix, in lower case: `PHASE_ACTIVE` -> `active`.
fn short(full: &str, prefix: &str) -> String {
    full.strip_prefix(prefix).unwrap_or(full).to_ascii_lowercase().replace('_', "-")
}

pub(crate) fn phase(value: i32) -> String {
    v1::Phase::try_from(value).map_or_else(|_| "?".to_owned(), |p| short(p.as_str_name(), "PHASE_"))
}

pub(crate) fn label(value: i32) -> String {
    match v1::Label::try_from(value) {
        Ok(v1::Label::Blue) => "blue".to_owned(),
        Ok(v1::Label::Green) => "green".to_owned(),
        Ok(v1::Label::Unspecified) | Err(_) => "-".to_owned(),
    }
}

pub(crate) fn server_state(value: i32) -> String {
    v1::ServerState::try_from(value).map_or_else(|_| "?".to_owned(), |s| short(s.as_str_name(), "SERVER_STATE_"))
}

pub(crate) fn session_state(value: i32) -> String {
    v1::SessionState::try_from(value).map_or_else(|_| "?".to_owned(), |s| short(s.as_str_name(), "SESSION_STATE_"))
}

pub(crate) fn rollout_state(value: i32) -> String {
    v1::RolloutState::try_from(value).map_or_else(|_| "?".to_owned(), |s| short(s.as_str_name(), "ROLLOUT_STATE_"))
}

pub(crate) fn step_state(value: i32) -> String {
    v1::StepState::try_from(value).map_or_else(|_| "?".to_owned(), |s| short(s.as_str_name(), "STEP_STATE_"))
}

pub(crate) fn drain_state(value: i32) -> String {
    v1::DrainState::try_from(value).map_or_else(|_| "?".to_owned(), |s| short(s.as_str_name(), "DRAIN_STATE_"))
}

pub(crate) fn cause(value: i32) -> String {
    v1::Cause::try_from(value).map_or_else(|_| "?".to_owned(), |c| short(c.as_str_name(), "CAUSE_"))
}

/// A Unix time in milliseconds as local date and time; empty for 0.
pub(crate) fn time(ms: i64) -> String {
    if ms == 0 {
        return String::new();
    }
    Timestamp::from_millisecond(ms)
        .map(|t| t.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_default()
}

/// How long ago, in the largest unit that says something: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn ago(ms: i64, now_ms: i64) -> String {
    if ms == 0 { String::new() } else { span(u64::try_from(now_ms - ms).unwrap_or(0)) }
}

/// A number of milliseconds for people.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{:.1}s", ms as f64 / 1_000.0),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms / 1_000 % 60),
        3_600_000..86_400_000 => format!("{}h{:02}m", ms / 3_600_000, ms / 60_000 % 60),
        _ => format!("{}d{:02}h", ms / 86_400_000, ms / 3_600_000 % 24),
    }
}

/// Now, Unix time in milliseconds.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Reads `90s`, `5m`, `1h30m`, `250ms`, `2d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("\"{text}\" is not a duration; write for example 30s, 5m, 1h30m or 250ms");
    let (mut total, mut rest) = (0u64, text.trim());
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(bad()),
        };
        total = number.checked_mul(scale).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        rest = &rest[unit..];
    }
    Ok(Duration::from_millis(total))
}

/// Milliseconds of a duration.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads `key=value`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("\"{text}\" is not of the form key=value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("1h30m").unwrap(), Duration::from_secs(5_400));
        assert_eq!(parse_duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(parse_duration("2d").unwrap(), Duration::from_secs(172_800));
        for bad in ["", "5", "s", "5x", "-3s", "99999999999999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(span(999), "999ms");
        assert_eq!(span(61_000), "1m01s");
        assert_eq!(span(90_000_000), "1d01h");
    }

    #[test]
    fn enums_lose_their_prefix() {
        assert_eq!(phase(v1::Phase::Active as i32), "active");
        assert_eq!(phase(99), "?");
        assert_eq!(label(0), "-");
        assert_eq!(step_state(v1::StepState::Done as i32), "done");
    }
}
