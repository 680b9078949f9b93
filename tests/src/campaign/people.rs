//! Who plays in a campaign: people who change home as often as they can, in parties and alone, and some who come and go.

/// Their profiles, as TOML.
pub(super) const PROFILES: &str = r#"
[[profile]]
name = "traveller"
share = 5
stay_s = 3600.0
away_s = 1.0
actions_per_s = 4.0
pipeline = 2
positions = 1.0
stubborn = true
weights = { ping = 2, go_to = 4, trade_item = 1, give = 1 }

[[profile]]
name = "delver"
share = 3
stay_s = 3600.0
away_s = 1.0
actions_per_s = 4.0
pipeline = 2
positions = 1.0
stubborn = true
weights = { ping = 4, enter = 2, die = 0.2 }
party = { size = 2, instance = "dungeon", stay_s = 1.0 }

[[profile]]
name = "guest"
share = 2
stay_s = 15.0
away_s = 1.0
actions_per_s = 2.0
pipeline = 2
positions = 1.0
stubborn = false
weights = { ping = 4, chat = 1, trade_item = 1, die = 0.5 }
"#;
