//! Is the directory still the one it was? It holds a mark, a random id that the first gateway wrote. A mark that is gone or
//! another one means that everything beside it is gone too; the same mark on another run of a server means that the latest
//! writes may be.
//!
//! A cluster has a mark on each of its masters, for each may be lost by itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use futures::future::try_join_all;
use redis::cluster_routing::Slot;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use uuid::Uuid;

use crate::link::Link;
use crate::scripts;

/// The key of the one server's mark; in a cluster a hash tag follows.
const KEY: &str = "tidegate:directory";

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// A mark as it was just read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    key: String,
    id: String,
    /// There was none, and it was made.
    made: bool,
    /// The run of the server that holds it; empty if that may not be asked for.
    run: String,
}

/// What became of the directory since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// Another server, or another run of it, has it now: what was written last may be missing.
    Server,
    /// It was found empty or replaced.
    Wiped,
}

/// The marks as they were last seen.
#[derive(Debug, Default)]
pub(crate) struct Incarnation {
    seen: BTreeMap<String, (String, String)>,
}

impl Incarnation {
    /// Compares with what was seen before, and remembers.
    pub(crate) fn observe(&mut self, marks: Vec<Mark>) -> Change {
        let first = self.seen.is_empty();
        let mut change = Change::None;
        for mark in marks {
            let one = match self.seen.get(&mark.key) {
                Some((id, _)) if *id != mark.id => Change::Wiped,
                Some((_, run)) if *run != mark.run => Change::Server,
                Some(_) => Change::None,
                // A directory that nobody used yet, or that lost its mark before we came. Slots of a cluster that we know
                // are another matter: they get a mark when they become the first of a master.
                None if mark.made && first => Change::Wiped,
                None => Change::None,
            };
            change = match (change, one) {
                (Change::Wiped, _) | (_, Change::Wiped) => Change::Wiped,
                (Change::Server, _) | (_, Change::Server) => Change::Server,
                (Change::None, Change::None) => Change::None,
            };
            self.seen.insert(mark.key, (mark.id, mark.run));
        }
        change
    }
}

/// Reads all marks, and makes those that are missing. Fails where a write would be refused.
///
/// # Errors
/// What the connection or the server says. There is no time limit.
pub(crate) async fn look(link: &Link) -> RedisResult<Vec<Mark>> {
    let keys = if link.is_cluster() { cluster_keys(link.clone()).await? } else { vec![KEY.to_owned()] };
    try_join_all(keys.into_iter().map(|key| mark(link.clone(), key))).await
}

async fn mark(mut link: Link, key: String) -> RedisResult<Mark> {
    let answer = link.call(&scripts::mark(&key, Uuid::new_v4())).await?;
    let (id, made, run) = scripts::read_mark(answer)
        .ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "not the mark of a directory")))?;
    Ok(Mark { key, id, made, run })
}

/// One key for each master: of its lowest slot.
async fn cluster_keys(mut link: Link) -> RedisResult<Vec<String>> {
    let slots = link.send(redis::cmd("CLUSTER").arg("SLOTS")).await?;
    // The table takes milliseconds to make, which are not taken from players.
    let keys =
        tokio::task::spawn_blocking(move || lowest_slots(slots).into_iter().filter_map(slot_key).collect()).await;
    keys.map_err(|_| RedisError::from((ErrorKind::Client, "the table of the cluster's slots was not made")))
}

/// The key of the mark in this slot.
fn slot_key(slot: u16) -> Option<String> {
    Some(format!("{KEY}:{{{}}}", TAGS.get(&Slot::new(slot)?)?))
}

/// The lowest slot of each master in an answer to `CLUSTER SLOTS`.
fn lowest_slots(answer: Value) -> Vec<u16> {
    let mut lowest: BTreeMap<(String, u16), u16> = BTreeMap::new();
    let ranges = if let Value::Array(ranges) = answer { ranges } else { Vec::new() };
    for range in ranges {
        let Value::Array(range) = range else { continue };
        let (Some(Value::Int(from)), Some(Value::Array(master))) = (range.first(), range.get(2)) else { continue };
        let Ok((name, port)) =
            redis::from_redis_value::<(String, u16)>(Value::Array(master[..2.min(master.len())].to_vec()))
        else {
            continue;
        };
        let Ok(from @ 0..SLOTS) = u16::try_from(*from) else { continue };
        lowest.entry((name, port)).and_modify(|slot| *slot = from.min(*slot)).or_insert(from);
    }
    lowest.into_values().collect()
}

/// For each slot the smallest number whose hash is that slot.
static TAGS: LazyLock<HashMap<Slot, u32>> = LazyLock::new(|| {
    let mut tags = HashMap::new();
    for n in 0.. {
        if tags.len() == usize::from(SLOTS) {
            break;
        }
        tags.entry(Slot::for_key(n.to_string())).or_insert(n);
    }
    tags
});

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(key: &str, id: &str, made: bool, run: &str) -> Mark {
        Mark { key: key.to_owned(), id: id.to_owned(), made, run: run.to_owned() }
    }

    fn check(given: &[Mark], when: Mark, expect: Change) {
        let mut incarnation = Incarnation::default();
        if !given.is_empty() {
            incarnation.observe(given.to_vec());
        }
        assert_eq!(incarnation.observe(vec![when]), expect);
    }

    #[test]
    fn a_mark_that_is_gone_or_another_one_is_a_wipe() {
        check(&[], mark("a", "1", true, "x"), Change::Wiped);
        check(&[], mark("a", "1", false, "x"), Change::None);
        check(&[mark("a", "1", false, "x")], mark("a", "1", false, "x"), Change::None);
        check(&[mark("a", "1", false, "x")], mark("a", "2", false, "x"), Change::Wiped);
        check(&[mark("a", "1", false, "x")], mark("a", "2", true, "y"), Change::Wiped);
        check(&[mark("a", "1", false, "x")], mark("a", "1", false, "y"), Change::Server);
    }

    #[test]
    fn a_new_master_in_a_known_cluster_is_no_wipe() {
        check(&[mark("a", "1", false, "x")], mark("b", "2", true, "y"), Change::None);
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in [0, 1, 5_461, SLOTS - 1] {
            assert_eq!(Slot::for_key(slot_key(slot).unwrap()), Slot::new(slot).unwrap());
        }
    }

    #[test]
    fn each_master_is_asked_at_its_lowest_slot() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let range = |from, port| {
            Value::Array(vec![
                Value::Int(from),
                Value::Int(from + 9),
                Value::Array(vec![text("127.0.0.1"), Value::Int(port), text("id")]),
            ])
        };
        let answer = Value::Array(vec![range(100, 1), range(50, 1), range(0, 2), Value::Nil]);
        assert_eq!(lowest_slots(answer), [50, 0]);
        assert_eq!(lowest_slots(Value::Nil), [] as [u16; 0]);
    }
}
