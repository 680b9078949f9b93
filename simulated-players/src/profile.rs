//! Profiles: what kinds of players there are, read from TOML. `profiles.toml` beside this file is the embedded default and
//! documents every key.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tidegate_types::ZoneId;

use crate::error::SimulationError;

/// The embedded profiles.
pub const EMBEDDED: &str = include_str!("profiles.toml");

/// One kind of player. The keys' meanings stand in `profiles.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// For reports.
    pub name: String,
    /// How many players are of this kind, relative to the others.
    pub share: f64,
    /// Mean length of a session, in seconds.
    pub stay_s: f64,
    /// Mean time between two sessions, in seconds.
    pub away_s: f64,
    /// Reliable actions a second.
    pub actions_per_s: f64,
    /// Actions that may wait for their answers at once.
    pub pipeline: u8,
    /// Share of the position datagrams it sends.
    pub positions: f64,
    /// Never logs out by itself.
    pub stubborn: bool,
    /// How often each action is chosen.
    pub weights: Weights,
    /// Players who come together.
    #[serde(default)]
    pub party: Option<Party>,
}

/// How often each action is chosen, relative to the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// An echo.
    pub ping: f64,
    /// A line of zone chat.
    pub chat: f64,
    /// Gold to another player.
    pub give: f64,
    /// To another zone.
    pub go_to: f64,
    /// Into the party's instance (the party's first member only).
    pub enter: f64,
    /// Die and respawn.
    pub die: f64,
    /// Begin or end a fight (in an instance only).
    pub fight: f64,
    /// Buy or sell an item.
    pub trade_item: f64,
}

/// Players who come together.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// How many.
    pub size: u8,
    /// The kind of instance they enter.
    pub instance: ZoneId,
    /// How long they stay in it, in seconds.
    pub stay_s: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    profile: Vec<Profile>,
}

/// Reads a TOML text; the error is one line with the key and the place.
pub(crate) fn parse_toml<T: DeserializeOwned>(text: &str, path: &str) -> Result<T, SimulationError> {
    toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        // The span's own text names the key where the message alone does not (a wrong type, for example).
        let near = e.span().and_then(|span| text.get(..span.start)).and_then(|before| before.rsplit('\n').next());
        let key = near.and_then(|near| near.rsplit(['{', ',']).next()).map(|k| k.trim().trim_end_matches('=').trim());
        let key = key.filter(|k| !k.is_empty()).map(|k| format!(" at {k}")).unwrap_or_default();
        let message = e.message().lines().collect::<Vec<_>>().join(" ");
        SimulationError::Parse { path: path.to_owned(), why: format!("line {line}{key}: {message}") }
    })
}

/// Reads the profiles of a file, or the embedded ones.
///
/// # Errors
/// One line that names file, profile and key.
pub fn load(path: Option<&Path>) -> Result<Vec<Arc<Profile>>, SimulationError> {
    match path {
        None => parse(EMBEDDED, "the embedded profiles"),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|e| SimulationError::Read { path: path.to_owned(), why: e.to_string() })?;
            parse(&text, &path.display().to_string())
        }
    }
}

/// Reads profiles from TOML and checks their values.
///
/// # Errors
/// One line that names file, profile and key.
pub fn parse(text: &str, path: &str) -> Result<Vec<Arc<Profile>>, SimulationError> {
    let file: File = parse_toml(text, path)?;
    if file.profile.is_empty() {
        return Err(SimulationError::Parse { path: path.into(), why: "profile: names none".into() });
    }
    for profile in &file.profile {
        profile.check().map_err(|(key, why)| SimulationError::Parse {
            path: path.into(),
            why: format!("profile \"{}\": {key} {why}", profile.name),
        })?;
    }
    Ok(file.profile.into_iter().map(Arc::new).collect())
}

impl Weights {
    /// In a fixed order, for choosing.
    #[must_use]
    pub const fn as_array(&self) -> [f64; 8] {
        [self.ping, self.chat, self.give, self.go_to, self.enter, self.die, self.fight, self.trade_item]
    }
}

impl Profile {
    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let positive = |key, value: f64| {
            if value.is_finite() && value > 0.0 { Ok(()) } else { Err((key, "must be above 0")) }
        };
        positive("share", self.share)?;
        positive("stay_s", self.stay_s)?;
        positive("away_s", self.away_s)?;
        positive("actions_per_s", self.actions_per_s)?;
        if self.actions_per_s > 100.0 {
            return Err(("actions_per_s", "must be at most 100"));
        }
        if !(1..=8).contains(&self.pipeline) {
            return Err(("pipeline", "must be 1 to 8"));
        }
        if !(0.0..=1.0).contains(&self.positions) {
            return Err(("positions", "must be 0 to 1"));
        }
        let weights = self.weights.as_array();
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return Err(("weights", "must not be negative"));
        }
        positive("weights", weights.iter().sum())?;
        match &self.party {
            None if self.weights.enter > 0.0 => Err(("weights.enter", "needs a party")),
            None => Ok(()),
            Some(party) if !(2..=64).contains(&party.size) => Err(("party.size", "must be 2 to 64")),
            Some(party) => positive("party.stay_s", party.stay_s),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = parse(text, "p.toml").unwrap_err().to_string();
        assert!(error.contains("p.toml"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    }

    #[test]
    fn the_embedded_profiles_are_right() {
        let profiles = load(None).unwrap();
        let names: Vec<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["newcomer", "dungeon party", "zone traveller", "trader", "raider", "afk fisher"]);
        assert!(profiles.iter().any(|p| p.stubborn));
    }

    #[test]
    fn a_wrong_file_is_refused_by_the_key() {
        let one = |from: &str, to: &str| EMBEDDED.replacen(from, to, 1);
        assert!(refused(&one("stay_s = 60.0", "stay_s = 60.0\nstay = 1")).contains("stay"));
        assert!(refused(&one("pipeline = 1\n", "pipeline = 9\n")).contains("\"newcomer\": pipeline must be 1 to 8"));
        assert!(refused(&one("pipeline = 1\n", "pipeline = \"two\"\n")).contains("pipeline"));
        assert!(refused(&one("share = 25\n", "")).contains("share"));
        assert!(refused(&one("ping = 10", "pong = 10")).contains("pong"));
        assert!(refused(&one("ping = 10, chat = 4, go_to = 2, die = 1", "enter = 1")).contains("weights.enter"));
        assert!(refused(&one("size = 4", "size = 1")).contains("party.size"));
        assert!(refused("profile = []").contains("profile"));
    }
}
