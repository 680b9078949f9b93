//! What happened so far, as plain numbers. The shell exports them.

/// Counts since the core began, and a few gauges. Those marked "must stay 0" are the rules of the design.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counters {
    /// New sessions that reached a world server.
    pub logins: u64,
    /// Logins that took over a session in the world.
    pub takeovers: u64,
    /// Sessions taken over from another gateway, by login or resume.
    pub taken_over: u64,
    /// Sessions that another gateway took over.
    pub replaced: u64,
    /// Characters looked for on every world server.
    pub searches: u64,
    /// Frames on their way that fell out of a world server's window while its link was down.
    pub link_gaps: u64,
    /// `Hold`s begun: directory out of reach.
    pub holds_directory: u64,
    /// Detached sessions that came back.
    pub resumes: u64,
    /// Resumes that could not be given all frames.
    pub resume_gaps: u64,
    /// Connections lost by sessions in play.
    pub detached: u64,
    /// Sessions ended by the player's word.
    pub logouts: u64,
    /// Sessions ended because nobody came back in time.
    pub grace_expired: u64,
    /// Sessions ended by an operator or by the game.
    pub kicked: u64,
    /// Hellos answered with `Refused`.
    pub refused: u64,
    /// `Hold`s begun: no room.
    pub holds_full: u64,
    /// `Hold`s begun: home lost.
    pub holds_home_lost: u64,
    /// `Hold`s begun: gateway warming.
    pub holds_warming: u64,
    /// `Hold`s begun: no accepting environment.
    pub holds_admission: u64,
    /// Attaches refused for a stale epoch, retried above it.
    pub stale_epoch_retries: u64,
    /// Attaches refused for the zone, retried where the character is.
    pub wrong_zone_retries: u64,
    /// Attaches refused for another reason, retried elsewhere.
    pub attach_refused: u64,
    /// Attaches cancelled because a newer table takes new sessions elsewhere.
    pub rerouted: u64,
    /// Logins placed in their party's environment rather than in the accepting one.
    pub party_follows: u64,
    /// Hand-overs begun.
    pub handovers_started: u64,
    /// Hand-overs that ended at the target.
    pub handovers_completed: u64,
    /// Hand-overs that left the player where they were: all reasons.
    pub handovers_kept_in_place: u64,
    /// … the source would not freeze.
    pub kept_freeze_refused: u64,
    /// … the target would not prepare.
    pub kept_prepare_refused: u64,
    /// … a step took too long.
    pub kept_timed_out: u64,
    /// … the target's link broke.
    pub kept_target_lost: u64,
    /// … the source's link broke before it was frozen.
    pub kept_source_lost: u64,
    /// … the directory knew a newer epoch.
    pub kept_conflict: u64,
    /// … the target's build does not read the state's format.
    pub kept_format: u64,
    /// … another member of the group failed.
    pub kept_group: u64,
    /// … the session was ended meanwhile.
    pub kept_ended: u64,
    /// Hand-overs after whose commit the target was lost: restored from the last save.
    pub handovers_restored: u64,
    /// Boundaries at which the policy wanted another environment that had no server for the place or no room.
    pub boundary_fallbacks: u64,
    /// Transfers refused.
    pub transfers_refused: u64,
    /// Homes lost (link broken or server dead) with a player in them.
    pub homes_lost: u64,
    /// Lost homes that came back with the player still in them.
    pub homes_regained: u64,
    /// Lost homes replaced by another.
    pub homes_replaced: u64,
    /// Sessions found on a world server after a start of the gateway.
    pub adopted: u64,
    /// Residents that lived elsewhere by a newer epoch, told to forget.
    pub stale_residents: u64,
    /// Servers hung up because they did not answer.
    pub unresponsive: u64,
    /// Tables refused for being older.
    pub tables_refused: u64,
    /// Messages about a handle or step that is not (any more) what they say. Normal after time-outs; many are a defect.
    pub strays: u64,
    /// `Game` frames from players.
    pub frames_up: u64,
    /// `Game` frames to players.
    pub frames_down: u64,
    /// New sessions that reached play on an environment that did not accept by the table in force: must stay 0.
    pub misroutes: u64,
    /// Changes of a session's environment without a cause that allows it: must stay 0.
    pub moved_without_cause: u64,
    /// Sessions now.
    pub sessions: u32,
    /// … of them with no connection.
    pub detached_now: u32,
    /// … of them waiting.
    pub holding_now: u32,
    /// … of them in a hand-over.
    pub moving_now: u32,
}
