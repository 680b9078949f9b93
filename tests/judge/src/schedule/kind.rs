//! The kinds of faults there are.

use std::ops::Range;

use serde::{Serialize, Serializer};

/// A part of the realm, of which at most one fault at a time is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A gateway's process.
    Gateway,
    /// A world server's process.
    World,
    /// The manager, and the lines to it.
    Manager,
    /// Redis, and the lines to it.
    Redis,
    /// The players' lines.
    Players,
    /// The lines between gateways and world servers.
    Links,
}

macro_rules! kinds {
    ($($name:ident $word:literal $part:ident $lasts:expr, $doc:literal;)*) => {
        /// What goes wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = $doc] $name,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$name),*];

            /// As it is typed and reported.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What it strikes.
            #[must_use]
            pub const fn part(self) -> Part {
                match self { $(Self::$name => Part::$part,)* }
            }

            /// How long it may last, in milliseconds.
            #[must_use]
            pub fn lasts_ms(self) -> Range<u64> {
                match self { $(Self::$name => $lasts,)* }
            }
        }
    };
}

// The lease is 3 s: a pause is shorter, a hang is longer.
kinds! {
    GatewayKill "gateway-kill" Gateway 2_000..5_000, "kill -9; started again at the same address afterwards.";
    GatewayPause "gateway-pause" Gateway 500..2_000, "SIGSTOP for less than a lease.";
    GatewayHang "gateway-hang" Gateway 4_000..7_000, "SIGSTOP for more than a lease.";
    GatewayStop "gateway-stop" Gateway 4_000..8_000, "SIGTERM: it lets its players go, ends, and is started again.";
    WorldKill "world-kill" World 1_000..2_000, "kill -9; the manager starts another.";
    WorldPause "world-pause" World 300..1_200, "SIGSTOP for less than a lease and less than a hang.";
    WorldHang "world-hang" World 4_000..7_000, "SIGSTOP for more than a lease, and SIGCONT if it is still there.";
    ManagerKill "manager-kill" Manager 1_000..5_000, "kill -9; started again at the same address afterwards.";
    ManagerPause "manager-pause" Manager 1_000..6_000, "SIGSTOP.";
    ManagerCut "manager-line-cut" Manager 1_000..6_000, "Nothing passes between the manager and one gateway.";
    ManagerReset "manager-line-reset" Manager 200..1_000, "Connections to the manager are reset, and new ones too.";
    ManagerCrumbs "manager-line-crumbs" Manager 2_000..6_000, "Bytes to and from the manager come one to three at a time.";
    RedisKill "redis-kill" Redis 1_000..5_000, "kill -9; started again with what it had saved.";
    RedisPause "redis-pause" Redis 500..5_000, "SIGSTOP.";
    RedisWipe "redis-wipe" Redis 100..500, "FLUSHALL.";
    RedisOld "redis-old" Redis 500..3_000, "kill -9; started again from a file that is some rounds old.";
    RedisFailover "redis-failover" Redis 500..3_000, "A replica that lags takes over.";
    RedisCut "redis-line-cut" Redis 500..5_000, "Nothing passes between Redis and the gateways.";
    RedisReset "redis-line-reset" Redis 200..1_000, "Connections to Redis are reset, and new ones too.";
    RedisSlow "redis-line-slow" Redis 2_000..6_000, "Every answer of Redis takes 100 ms, in crumbs.";
    PlayersCut "players-cut" Players 500..4_000, "Nothing passes between players and one gateway.";
    PlayersHalf "players-half-open" Players 500..4_000, "What one gateway says does not reach its players.";
    PlayersBad "players-bad" Players 3_000..8_000, "Packets between players and gateways get lost, late, double and disordered.";
    PlayersRebind "players-rebind" Players 100..500, "Players of one gateway come from new addresses.";
    LinkCut "link-cut" Links 500..2_500, "Nothing passes between gateways and one world server, for less than a lease.";
    LinkLost "link-lost" Links 4_000..6_000, "Nothing passes between gateways and one world server, for more than a lease.";
    LinkBad "link-bad" Links 3_000..8_000, "Packets between gateways and world servers get lost, late, double and disordered.";
}

impl Kind {
    /// The kinds of a comma-separated list: words, beginnings of words (`redis` is all of Redis), or `all`.
    ///
    /// # Errors
    /// The word that begins none.
    pub fn parse_list(list: &str) -> Result<Vec<Self>, String> {
        let mut kinds = Vec::new();
        for word in list.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "none") {
            let before = kinds.len();
            kinds.extend(Self::ALL.into_iter().filter(|kind| word == "all" || kind.word().starts_with(word)));
            if kinds.len() == before {
                return Err(word.to_owned());
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        Ok(kinds)
    }

    /// True for faults of what players can do without: manager and directory (invariant 8).
    #[must_use]
    pub const fn is_off_the_player_path(self) -> bool {
        matches!(self.part(), Part::Manager | Part::Redis)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_words_and_beginnings() {
        assert_eq!(Kind::parse_list("world-kill").unwrap(), [Kind::WorldKill]);
        assert_eq!(Kind::parse_list("redis, world").unwrap().len(), 8 + 3);
        assert_eq!(Kind::parse_list("all,redis").unwrap(), Kind::ALL);
        assert!(Kind::parse_list("none").unwrap().is_empty());
        assert_eq!(Kind::parse_list("world,earthquake").unwrap_err(), "earthquake");
    }
}
