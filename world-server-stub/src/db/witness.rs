//! What the transactions of the realm database did, written into the event log for whoever judges a run afterwards: what
//! stood in the row before is read in the same transaction, so that no order of lines has to be believed.

use rusqlite::{Connection, OptionalExtension as _};
use tidegate_events::event;

use super::work::{Claim, ClaimRefused, Saved, Traded, Written};

/// Performs a claim and says what came of it.
pub(crate) fn claim<T>(
    db: &Connection,
    claim: &Claim,
    perform: impl FnOnce() -> rusqlite::Result<Result<T, ClaimRefused>>,
) -> rusqlite::Result<Result<T, ClaimRefused>> {
    let was = epoch(db, &claim.character)?;
    let outcome = perform()?;
    event!(
        "claim",
        player = claim.player,
        character = claim.character,
        epoch = claim.epoch,
        was = was,
        accepted = outcome.is_ok(),
        instance = claim.instance
    );
    Ok(outcome)
}

/// Performs a save and says what came of it.
pub(crate) fn save(
    db: &Connection,
    saved: &Saved,
    perform: impl FnOnce() -> rusqlite::Result<Written>,
) -> rusqlite::Result<Written> {
    let was = epoch(db, &saved.character)?;
    let outcome = perform()?;
    tell_save(saved, was, outcome == Written::Yes);
    Ok(outcome)
}

/// Performs a trade and says what came of it, for each side.
pub(crate) fn trade(
    db: &Connection,
    sides: [&Saved; 2],
    perform: impl FnOnce() -> rusqlite::Result<Traded>,
) -> rusqlite::Result<Traded> {
    let was = [epoch(db, &sides[0].character)?, epoch(db, &sides[1].character)?];
    let outcome = perform()?;
    for (saved, was) in sides.into_iter().zip(was) {
        tell_save(saved, was, outcome == Traded::Yes);
    }
    Ok(outcome)
}

fn tell_save(saved: &Saved, was: Option<i64>, accepted: bool) {
    event!("save", character = saved.character, epoch = saved.epoch, was = was, accepted = accepted);
}

/// The row's epoch, if anybody wants to know it.
fn epoch(db: &Connection, character: &str) -> rusqlite::Result<Option<i64>> {
    if !tidegate_events::on() {
        return Ok(None);
    }
    db.prepare_cached("SELECT epoch FROM characters WHERE character = ?1")?
        .query_row([character], |row| row.get(0))
        .optional()
}
