//! The transactions of the realm database, each a function on a connection that is inside a transaction. They answer what
//! happened as data; an `Err` is SQLite's own and leaves nothing behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tidegate_proto::stub::v1::CharacterState;
use tidegate_types::{Mono, sabotage};

use crate::character::Formats;

/// The gold that a new character takes out of the bank.
pub const STARTING_GOLD: i64 = 100;

/// A character as a row holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The character's id.
    pub character: String,
    /// The epoch by which it is written.
    pub epoch: u64,
    /// The shared zone to log in to.
    pub zone: String,
    /// Gold owned.
    pub gold: u64,
    /// Items owned.
    pub items: u64,
    /// The highest action sequence applied.
    pub applied: u64,
    /// The format of `state`.
    pub format: u32,
    /// The whole state, in that format.
    pub state: Vec<u8>,
}

impl Saved {
    /// The row of a state, written by the holder of `epoch`.
    #[must_use]
    pub fn new(state: &CharacterState, epoch: u64, formats: &Formats) -> Self {
        Self {
            character: state.character.clone(),
            epoch,
            zone: state.zone.clone(),
            gold: state.gold,
            items: state.items,
            applied: state.applied,
            format: formats.write,
            state: formats.encode(state),
        }
    }
}

/// A claim of a character's home.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The player's id.
    pub player: String,
    /// The character's id.
    pub character: String,
    /// The epoch claimed; must be above every earlier one.
    pub epoch: u64,
    /// The epoch that the row must have (0: there must be no row); `None`: any lower.
    pub from: Option<u64>,
    /// The process that claims (see [`register`]).
    pub instance: String,
    /// When, by CLOCK_BOOTTIME.
    pub at: Mono,
}

/// How a session comes in from outside, not by a hand-over.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Who, and at which epoch.
    pub claim: Claim,
    /// The gateway said where: the saved zone does not matter.
    pub placed: bool,
    /// The shared zones of this server: where the character may be when the gateway did not say.
    pub zones: Arc<BTreeSet<String>>,
    /// Where a new character begins; `None`: this server makes none.
    pub entry: Option<String>,
    /// False for probes: a new character then gets nothing from the bank.
    pub endowed: bool,
    /// The formats of this build.
    pub formats: Formats,
}

/// Why a claim changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimRefused {
    /// This epoch or a higher one was claimed before, or the claim must be from another epoch than the row has.
    Stale {
        /// What the row has; 0: there is none.
        saved: u64,
    },
    /// The character is in a zone that is not among those allowed.
    WrongZone {
        /// The zone it is in.
        zone: String,
    },
    /// The saved state's format is not read by this build.
    Format {
        /// The format found.
        found: u32,
    },
    /// There is no such character, and none may be made here.
    Unknown,
}

/// Whether a guarded write happened.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It did.
    Yes,
    /// The character's home is elsewhere by now.
    Stale,
}

/// What became of a trade.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traded {
    /// Both rows are written.
    Yes,
    /// Nothing is written: one of the two homes is elsewhere by now.
    Stale {
        /// The giver's is.
        giver: bool,
        /// The receiver's is.
        receiver: bool,
    },
}

/// An interval of a player's life on this process that begins or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeMark {
    /// The player's id.
    pub player: String,
    /// The character's id.
    pub character: String,
    /// The epoch of the home.
    pub epoch: u64,
    /// When, by CLOCK_BOOTTIME.
    pub at: Mono,
}

/// SQLite's integers are signed; counters and microseconds of a game stay far below 2^63.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0))
}

/// Registers a run of this process, whose intervals are counted by the clock of this run of the machine.
pub fn register(
    db: &Connection,
    instance: &str,
    server: &str,
    build: &str,
    boot: &str,
    at: Mono,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT OR REPLACE INTO processes (instance, server, build, boot, seen_us) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![instance, server, build, boot, int(at.0)])?;
    Ok(())
}

/// Reads a character's row.
pub fn load(db: &Connection, character: &str) -> rusqlite::Result<Option<Saved>> {
    db.prepare_cached("SELECT * FROM characters WHERE character = ?1")?
        .query_row([character], |row| {
            Ok(Saved {
                character: row.get("character")?,
                epoch: count(row, "epoch")?,
                zone: row.get("zone")?,
                gold: count(row, "gold")?,
                items: count(row, "items")?,
                applied: count(row, "applied")?,
                format: row.get("format")?,
                state: row.get("state")?,
            })
        })
        .optional()
}

/// Claims a character for a session that comes from outside, making the character if it is new.
pub fn attach(db: &Connection, request: &Attach) -> rusqlite::Result<Result<Saved, ClaimRefused>> {
    let claim = &request.claim;
    let saved = match load(db, &claim.character)? {
        None if !may_claim(claim, 0) => return Ok(Err(ClaimRefused::Stale { saved: 0 })),
        None => match &request.entry {
            None => return Ok(Err(ClaimRefused::Unknown)),
            Some(entry) => create(db, request, entry)?,
        },
        Some(saved) => {
            if !may_claim(claim, saved.epoch) {
                return Ok(Err(ClaimRefused::Stale { saved: saved.epoch }));
            }
            if !request.placed && !request.zones.contains(&saved.zone) {
                return Ok(Err(ClaimRefused::WrongZone { zone: saved.zone }));
            }
            if !request.formats.read.contains(&saved.format) {
                return Ok(Err(ClaimRefused::Format { found: saved.format }));
            }
            raise(db, claim)?;
            Saved { epoch: claim.epoch, ..saved }
        }
    };
    begin_home(db, claim)?;
    Ok(Ok(saved))
}

fn create(db: &Connection, request: &Attach, entry: &str) -> rusqlite::Result<Saved> {
    let claim = &request.claim;
    let taken = request.endowed
        && db.prepare_cached("UPDATE bank SET gold = gold - ?1 WHERE gold >= ?1")?.execute([STARTING_GOLD])? == 1;
    let state = CharacterState {
        character: claim.character.clone(),
        player: claim.player.clone(),
        zone: entry.to_owned(),
        gold: if taken { STARTING_GOLD.unsigned_abs() } else { 0 },
        ..CharacterState::default()
    };
    let saved = Saved::new(&state, claim.epoch, &request.formats);
    db.prepare_cached(
        "INSERT INTO characters (character, player, epoch, zone, gold, items, applied, format, state)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        saved.character,
        claim.player,
        int(saved.epoch),
        saved.zone,
        int(saved.gold),
        int(saved.items),
        int(saved.applied),
        saved.format,
        saved.state
    ])?;
    Ok(saved)
}

/// Claims a character that a hand-over brought, whose state is `carried`. The source saved it before it let go, so the row
/// says the same; should it say otherwise, then the row wins (it is what was paid for) and is answered instead.
pub fn activate(
    db: &Connection,
    claim: &Claim,
    carried: &Saved,
    formats: &Formats,
) -> rusqlite::Result<Result<Saved, ClaimRefused>> {
    let Some(row) = load(db, &claim.character)? else { return Ok(Err(ClaimRefused::Unknown)) };
    if !may_claim(claim, row.epoch) {
        return Ok(Err(ClaimRefused::Stale { saved: row.epoch }));
    }
    let same = (row.gold, row.items, row.applied) == (carried.gold, carried.items, carried.applied);
    let now = if same { carried.clone() } else { row };
    if !formats.read.contains(&now.format) {
        return Ok(Err(ClaimRefused::Format { found: now.format }));
    }
    let now = Saved { epoch: claim.epoch, ..now };
    raise(db, claim)?;
    // The epoch is ours since the line above.
    let _held = write(db, &now)?;
    begin_home(db, claim)?;
    Ok(Ok(now))
}

/// Claims a character who is in memory already, for another gateway. Nothing is loaded. The interval of the new epoch begins
/// when the player is in play again, that of the old one has ended before.
pub fn reclaim(db: &Connection, claim: &Claim) -> rusqlite::Result<Result<(), ClaimRefused>> {
    let Some(row) = load(db, &claim.character)? else { return Ok(Err(ClaimRefused::Unknown)) };
    if !may_claim(claim, row.epoch) {
        return Ok(Err(ClaimRefused::Stale { saved: row.epoch }));
    }
    raise(db, claim)?;
    Ok(Ok(()))
}

/// The rule of claims: upward only, and from exactly the epoch that the gateway knows to be over, if it says which. That an
/// epoch is higher proves nothing about who holds the lower one.
fn may_claim(claim: &Claim, saved: u64) -> bool {
    (saved < claim.epoch && claim.from.is_none_or(|from| from == saved)) || skips_epochs()
}

/// Takes the row for the claim's epoch, which the caller found to be higher than the row's.
fn raise(db: &Connection, claim: &Claim) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE characters SET epoch = ?2 WHERE character = ?1 AND (epoch < ?2 OR ?3)")?
        .execute(params![claim.character, int(claim.epoch), skips_epochs()])?;
    Ok(())
}

/// Sabotage: claims and saves of an epoch that is over are taken.
fn skips_epochs() -> bool {
    sabotage::on("skip_epoch_check")
}

fn begin_home(db: &Connection, claim: &Claim) -> rusqlite::Result<()> {
    let mark =
        HomeMark { player: claim.player.clone(), character: claim.character.clone(), epoch: claim.epoch, at: claim.at };
    homes_begin(db, &claim.instance, &mark)
}

/// An interval begins: the player is live on this process from now.
pub fn homes_begin(db: &Connection, instance: &str, mark: &HomeMark) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT INTO homes (player, character, instance, epoch, from_us) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![mark.player, mark.character, instance, int(mark.epoch), int(mark.at.0)])?;
    Ok(())
}

/// An interval of this process ends. Never one of another's: only that process knows how long it went on.
pub fn homes_end(db: &Connection, instance: &str, mark: &HomeMark) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE homes SET to_us = max(from_us, ?4)
         WHERE character = ?1 AND epoch = ?2 AND instance = ?3 AND to_us IS NULL",
    )?
    .execute(params![mark.character, int(mark.epoch), instance, int(mark.at.0)])?;
    Ok(())
}

/// This process has ticked at `at`: its open intervals reach at least there.
pub fn seen(db: &Connection, instance: &str, at: Mono) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE processes SET seen_us = max(seen_us, ?2) WHERE instance = ?1")?
        .execute(params![instance, int(at.0)])?;
    Ok(())
}

/// Saves a character, if its home is still the writer's.
pub fn save(db: &Connection, saved: &Saved) -> rusqlite::Result<Written> {
    let written = write(db, saved)?;
    if written == Written::Stale {
        refused(db)?;
    }
    Ok(written)
}

/// The one statement that changes a character's state: only at the epoch that the row has.
fn write(db: &Connection, saved: &Saved) -> rusqlite::Result<Written> {
    let changed = db
        .prepare_cached(
            "UPDATE characters SET zone = ?3, gold = ?4, items = ?5, applied = ?6, format = ?7, state = ?8
             WHERE character = ?1 AND (epoch = ?2 OR ?9)",
        )?
        .execute(params![
            saved.character,
            int(saved.epoch),
            saved.zone,
            int(saved.gold),
            int(saved.items),
            int(saved.applied),
            saved.format,
            saved.state,
            skips_epochs()
        ])?;
    Ok(if changed == 1 { Written::Yes } else { Written::Stale })
}

/// Saves the two sides of a trade, both or none.
pub fn trade(db: &Connection, giver: &Saved, receiver: &Saved) -> rusqlite::Result<Traded> {
    let stale = [!holds(db, giver)?, !holds(db, receiver)?];
    if stale != [false, false] {
        refused(db)?;
        return Ok(Traded::Stale { giver: stale[0], receiver: stale[1] });
    }
    for side in [giver, receiver] {
        // Inside one write transaction, so what `holds` saw is still so.
        let _held = write(db, side)?;
    }
    Ok(Traded::Yes)
}

fn holds(db: &Connection, saved: &Saved) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM characters WHERE character = ?1 AND (epoch = ?2 OR ?3)")?.exists(params![
        saved.character,
        int(saved.epoch),
        skips_epochs()
    ])
}

fn refused(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE counters SET value = value + 1 WHERE name = 'stale_writes_refused'")?.execute([])?;
    Ok(())
}

/// Removes a probe's traces, if its home is still the writer's. A probe never owns gold.
pub fn forget(db: &Connection, character: &str, epoch: u64) -> rusqlite::Result<()> {
    let gone = db
        .prepare_cached("DELETE FROM characters WHERE character = ?1 AND epoch = ?2 AND gold = 0 AND items = 0")?
        .execute(params![character, int(epoch)])?;
    if gone == 1 {
        db.prepare_cached("DELETE FROM homes WHERE character = ?1")?.execute([character])?;
    }
    Ok(())
}

/// Saves a shared zone's state as this server knows it.
pub fn save_zone(db: &Connection, server: &str, zone: &str, state: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO zone_state (server, zone, state) VALUES (?1, ?2, ?3)")?
        .execute(params![server, zone, state])?;
    Ok(())
}

/// The zones that this server saved.
pub fn load_zones(db: &Connection, server: &str) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    db.prepare_cached("SELECT zone, state FROM zone_state WHERE server = ?1")?
        .query_map([server], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
