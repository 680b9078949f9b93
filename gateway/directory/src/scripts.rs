//! The one place that knows how entries lie in Redis: keys, scripts, and how their answers are read.
//!
//! Every operation is one script on one key. A key's hash tag names the character, so that whatever is kept of one character
//! is on one node of a cluster.

use std::sync::LazyLock;

use gateway_core::Who;
use gateway_core::directory::{DirectoryOp, DirectoryOutcome, Entry, Home};
use redis::{Cmd, Script, Value};
use tidegate_types::{EnvironmentId, Epoch, GatewayId, InstanceId, RealmId, ServerId, SessionId};
use uuid::Uuid;

use crate::config::DirectoryConfig;

/// A script and its SHA-1.
pub(crate) struct Lua {
    source: &'static str,
    script: Script,
}

macro_rules! lua {
    ($($file:literal),+) => {{
        const SOURCE: &str = concat!($(include_str!($file)),+);
        LazyLock::new(|| Lua { source: SOURCE, script: Script::new(SOURCE) })
    }};
}

static GET: LazyLock<Lua> = lua!("lua/entry.lua", "lua/get.lua");
static COMPARE_AND_SET: LazyLock<Lua> = lua!("lua/entry.lua", "lua/compare_and_set.lua");
static CLEAR: LazyLock<Lua> = lua!("lua/entry.lua", "lua/clear.lua");
static RAISE: LazyLock<Lua> = lua!("lua/entry.lua", "lua/raise.lua");
static MARK: LazyLock<Lua> = lua!("lua/mark.lua");
static TAKE_TICKET: LazyLock<Lua> = lua!("lua/take_ticket.lua");
static GIVE_TICKET_BACK: LazyLock<Lua> = lua!("lua/give_ticket_back.lua");

/// One call of one script on one key.
pub(crate) struct Call {
    lua: &'static Lua,
    key: String,
    args: Vec<String>,
}

impl Call {
    /// The call by the script's hash: short, and refused with NOSCRIPT by a server that has not seen the script.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", self.lua.script.get_hash())
    }

    /// The call with the script itself, which the server then remembers.
    pub(crate) fn in_full(&self) -> Cmd {
        self.command("EVAL", self.lua.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(1).arg(&self.key).arg(&self.args);
        command
    }
}

/// The call that does what the core asks.
pub(crate) fn entry(realm: &RealmId, who: &Who, op: &DirectoryOp, config: &DirectoryConfig) -> Call {
    let live = millis(config.live_ttl);
    let key = entry_key(realm, who);
    match op {
        DirectoryOp::Get => Call { lua: &GET, key, args: vec![live] },
        DirectoryOp::CompareAndSet { expected, to, home } => {
            let mut args = vec![live, digits(*expected), digits(*to)];
            args.extend(fields(home));
            Call { lua: &COMPARE_AND_SET, key, args }
        }
        DirectoryOp::Clear { epoch, session } => {
            Call { lua: &CLEAR, key, args: vec![millis(config.rested_ttl), digits(*epoch), session.to_string()] }
        }
        DirectoryOp::Raise { epoch, home } => {
            let mut args = vec![live, digits(*epoch)];
            args.extend(fields(home));
            Call { lua: &RAISE, key, args }
        }
    }
}

/// The call that reads the mark of a directory's incarnation, and sets it to `new` where there is none.
pub(crate) fn mark(key: &str, new: Uuid) -> Call {
    Call { lua: &MARK, key: key.to_owned(), args: vec![new.to_string()] }
}

/// The call that takes a ticket for `ttl_ms`. `taker` is the gateway's run, `call` tells its calls apart.
pub(crate) fn take_ticket(realm: &RealmId, id: Uuid, taker: Uuid, call: u64, ttl_ms: u64) -> Call {
    Call { lua: &TAKE_TICKET, key: ticket_key(realm, id), args: vec![ttl_ms.to_string(), format!("{taker}:{call}")] }
}

/// The call that forgets that `taker` took a ticket.
pub(crate) fn give_ticket_back(realm: &RealmId, id: Uuid, taker: Uuid) -> Call {
    Call { lua: &GIVE_TICKET_BACK, key: ticket_key(realm, id), args: vec![taker.to_string()] }
}

/// What was read out of a script's answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EntryAnswer {
    pub(crate) outcome: DirectoryOutcome,
    /// Something in the key could not be read and was treated as missing.
    pub(crate) unreadable: bool,
}

/// Reads the answer of an [`entry`] call; `None` if it is no such answer.
pub(crate) fn read_entry(value: Value, op: &DirectoryOp) -> Option<EntryAnswer> {
    let (word, mut unreadable, epoch, fields) = parts(value)?;
    let entry = Entry { epoch: Epoch(epoch.parse().ok()?), home: home(&fields) };
    // A home that Lua let pass and we cannot read: the epoch stands, the home is missing.
    unreadable |= entry.home.is_none() && fields.iter().any(|field| !field.is_empty());
    let outcome = match (word.as_str(), op) {
        ("found", DirectoryOp::Get) => DirectoryOutcome::Found(entry),
        ("conflict", _) => DirectoryOutcome::Conflict(entry),
        ("done", DirectoryOp::CompareAndSet { to, .. }) => DirectoryOutcome::Done(*to),
        ("done", DirectoryOp::Clear { epoch, .. } | DirectoryOp::Raise { epoch, .. }) => DirectoryOutcome::Done(*epoch),
        _ => return None,
    };
    Some(EntryAnswer { outcome, unreadable })
}

/// Reads the answer of a [`mark`] call: the mark, whether it was made just now, and the server's run.
pub(crate) fn read_mark(value: Value) -> Option<(String, bool, String)> {
    let (mark, made, run): (String, u8, String) = redis::from_redis_value(value).ok()?;
    Some((mark, made == 1, run))
}

/// Reads the answer of a [`take_ticket`] call: true if it was not used before.
pub(crate) fn read_ticket(value: Value) -> Option<bool> {
    let taken: u8 = redis::from_redis_value(value).ok()?;
    Some(taken == 1)
}

/// The fields of a home as they lie in Redis; anything may have written them.
type Fields = [Vec<u8>; 5];

fn parts(value: Value) -> Option<(String, bool, String, Fields)> {
    type Bytes = Vec<u8>;
    type Parts = (String, u8, String, Bytes, Bytes, Bytes, Bytes, Bytes);
    let (word, unreadable, epoch, s, w, i, v, g): Parts = redis::from_redis_value(value).ok()?;
    Some((word, unreadable == 1, epoch, [s, w, i, v, g]))
}

fn home(fields: &Fields) -> Option<Home> {
    let [session, server, instance, environment, gateway] = fields.each_ref().map(|field| std::str::from_utf8(field));
    Some(Home {
        session: session.ok()?.parse::<SessionId>().ok()?,
        server: ServerId::new(server.ok()?).ok()?,
        instance: instance.ok()?.parse::<InstanceId>().ok()?,
        environment: EnvironmentId::new(environment.ok()?).ok()?,
        gateway: GatewayId::new(gateway.ok()?).ok()?,
    })
}

fn fields(home: &Home) -> [String; 5] {
    [
        home.session.to_string(),
        home.server.to_string(),
        home.instance.to_string(),
        home.environment.to_string(),
        home.gateway.to_string(),
    ]
}

/// All epochs have the same width, so that a script can compare them exactly.
fn digits(epoch: Epoch) -> String {
    format!("{:020}", epoch.0)
}

fn millis(duration: std::time::Duration) -> String {
    duration.as_millis().clamp(1, i64::MAX as u128 / 4).to_string()
}

/// `tidegate:{realm/player/character}`.
pub(crate) fn entry_key(realm: &RealmId, who: &Who) -> String {
    format!(
        "tidegate:{{{}/{}/{}}}",
        escaped(realm.as_str()),
        escaped(who.player.as_str()),
        escaped(who.character.as_str())
    )
}

fn ticket_key(realm: &RealmId, id: Uuid) -> String {
    format!("tidegate:ticket:{{{}/{id}}}", escaped(realm.as_str()))
}

/// Ids may hold what separates the parts of a key or ends its hash tag.
fn escaped(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for c in id.chars() {
        match c {
            '%' => out.push_str("%25"),
            '/' => out.push_str("%2F"),
            '{' => out.push_str("%7B"),
            '}' => out.push_str("%7D"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_types::{CharacterId, PlayerId};

    #[test]
    fn no_two_characters_share_a_key() {
        let key = |realm: &str, player: &str, character: &str| {
            let who = Who { player: PlayerId::new(player).unwrap(), character: CharacterId::new(character).unwrap() };
            entry_key(&RealmId::new(realm).unwrap(), &who)
        };
        assert_eq!(key("eu-1", "p", "c"), "tidegate:{eu-1/p/c}");
        assert_ne!(key("eu", "a/b", "c"), key("eu", "a", "b/c"));
        assert_eq!(key("eu", "}", "{%"), "tidegate:{eu/%7D/%7B%25}");
        assert_ne!(key("eu", "%7D", "c"), key("eu", "}", "c"));
    }

    #[test]
    fn an_answer_of_another_shape_is_no_answer() {
        assert_eq!(read_entry(Value::Nil, &DirectoryOp::Get), None);
        assert_eq!(read_entry(Value::Array(vec![Value::SimpleString("found".into())]), &DirectoryOp::Get), None);
        assert_eq!(read_mark(Value::Okay), None);
        assert_eq!(read_ticket(Value::Nil), None);
    }
}
