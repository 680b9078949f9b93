//! Properties of the seat machine, against a model world and a model gateway that know the rules and nothing else.
//!
//! The model world remembers which seats it holds and what it owes; the model gateway remembers which requests it sent on
//! which handle. Any sequence of requests, answers, broken links and leases is played; the rules are checked at every step.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use tidegate_types::{Cause, Epoch, SessionId};

use super::*;
use crate::cx::Answer;

fn zone() -> ZoneId {
    "town".parse().unwrap()
}

fn place() -> Place {
    Place { zone: zone(), instance: None }
}

fn who(player: u8, session: u8) -> Who {
    Who {
        session: SessionId(uuid::Uuid::from_u128(u128::from(player) * 256 + u128::from(session))),
        player: format!("p{player}").parse().unwrap(),
        character: "c".parse().unwrap(),
        party: None,
        client_version: String::new(),
        pin: None,
    }
}

fn attach(player: u8, session: u8, epoch: u64) -> AttachRequest {
    AttachRequest {
        who: who(player, session),
        epoch: Epoch(epoch),
        place: None,
        cause: Cause::Login,
        channel: Channel::default(),
        take_over: false,
        refuse_connected: false,
        from: None,
    }
}

fn frozen() -> Frozen {
    Frozen { state: Bytes::from_static(b"state"), format: 1 }
}

fn formats() -> Formats {
    Formats { read: vec![1], write: 1 }
}

/// What the model world believes of a seat it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    Entering,
    Live,
    Parked,
    FreezeAsked {
        parked: bool,
    },
    Frozen {
        parked: bool,
    },
    Loading,
    Inert,
    Activating,
    /// Claimed anew while parked, or frozen.
    Reclaiming {
        frozen: bool,
        parked: bool,
    },
    Leaving,
}

#[derive(Debug, Default)]
struct ModelWorld {
    seats: BTreeMap<u32, (Belief, PlayerId)>,
    /// Questions that wait for an answer.
    owed: Vec<(Seat, u64, &'static str)>,
    turns: BTreeSet<u64>,
    /// The highest epoch that each player was in play under.
    lived: BTreeMap<PlayerId, Epoch>,
}

impl ModelWorld {
    fn belief(&mut self, seat: Seat) -> &mut Belief {
        &mut self.seats.get_mut(&seat.0).unwrap_or_else(|| panic!("seat {} is not held", seat.0)).0
    }

    fn owe(&mut self, seat: Seat, turn: u64, kind: &'static str) {
        assert!(self.turns.insert(turn), "a turn is used twice");
        assert!(!self.owed.iter().any(|(other, ..)| *other == seat), "two questions at one seat");
        self.owed.push((seat, turn, kind));
    }

    fn enter(&mut self, arrival: &Arrival, belief: Belief) {
        let before = self.seats.insert(arrival.seat.0, (belief, arrival.player.clone()));
        assert!(before.is_none(), "a seat is given twice");
        let lived = self.lived.get(&arrival.player).copied().unwrap_or_default();
        assert!(arrival.epoch > lived, "epoch {} was lived already", arrival.epoch);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask { seat, turn, request } => {
                let kind = match request {
                    Request::Attach(arrival) => {
                        self.enter(arrival, Belief::Entering);
                        "attach"
                    }
                    Request::Prepare(arrival, _) => {
                        self.enter(arrival, Belief::Loading);
                        "prepare"
                    }
                    Request::Leave(_) => {
                        let belief = self.belief(*seat);
                        assert!(matches!(belief, Belief::Live | Belief::Parked | Belief::Frozen { .. }), "{belief:?}");
                        *belief = Belief::Leaving;
                        "leave"
                    }
                    Request::Freeze => {
                        let belief = self.belief(*seat);
                        assert!(matches!(belief, Belief::Live | Belief::Parked), "{belief:?}");
                        *belief = Belief::FreezeAsked { parked: *belief == Belief::Parked };
                        "freeze"
                    }
                    Request::Activate(epoch) => {
                        assert_eq!(*self.belief(*seat), Belief::Inert);
                        *self.belief(*seat) = Belief::Activating;
                        let player = self.seats[&seat.0].1.clone();
                        let lived = self.lived.insert(player, *epoch);
                        assert!(lived.is_none_or(|lived| lived < *epoch));
                        "activate"
                    }
                    Request::Reclaim(epoch) => {
                        let belief = self.belief(*seat);
                        *belief = match *belief {
                            Belief::Parked => Belief::Reclaiming { frozen: false, parked: true },
                            Belief::Frozen { parked } => Belief::Reclaiming { frozen: true, parked },
                            other => panic!("{other:?} may change behind the claim"),
                        };
                        let player = self.seats[&seat.0].1.clone();
                        let lived = self.lived.insert(player, *epoch);
                        assert!(lived.is_some_and(|lived| lived < *epoch));
                        "reclaim"
                    }
                };
                self.owe(*seat, *turn, kind);
            }
            Step::Tell { seat, what } => match what {
                Tell::Park => {
                    assert_eq!(*self.belief(*seat), Belief::Live);
                    *self.belief(*seat) = Belief::Parked;
                }
                Tell::Unpark => {
                    assert_eq!(*self.belief(*seat), Belief::Parked);
                    *self.belief(*seat) = Belief::Live;
                }
                Tell::Thaw => match *self.belief(*seat) {
                    Belief::Frozen { parked } => {
                        *self.belief(*seat) = if parked { Belief::Parked } else { Belief::Live };
                    }
                    other => panic!("thaw of {other:?}"),
                },
                Tell::Release => {
                    let (belief, _) = self.seats.remove(&seat.0).expect("held");
                    assert!(matches!(belief, Belief::Live | Belief::Parked | Belief::Frozen { .. }), "{belief:?}");
                }
                Tell::Abort => {
                    let (belief, _) = self.seats.remove(&seat.0).expect("held");
                    assert_eq!(belief, Belief::Inert);
                }
            },
            Step::Vacated(seat) => {
                assert!(!self.seats.contains_key(&seat.0), "vacated while the world holds it");
                assert!(!self.owed.iter().any(|(other, ..)| other == seat), "vacated while an answer is owed");
            }
            Step::Say { .. } | Step::Open { .. } | Step::Resume { .. } | Step::Flush(_) => {}
        }
        // One home: of a player's seats at most one is, or was frozen in, play.
        let mut in_play = BTreeSet::new();
        for (belief, player) in self.seats.values() {
            if matches!(belief, Belief::Live | Belief::Parked) {
                assert!(in_play.insert(player), "{player} is in play twice");
            }
        }
    }

    /// Answers one question, with yes or no; what the world holds then.
    fn answer(&mut self, pick: usize, yes: bool, epoch_of: impl Fn(Seat) -> Epoch) -> Option<(Seat, u64, Answer)> {
        if self.owed.is_empty() {
            return None;
        }
        let (seat, turn, kind) = self.owed.remove(pick % self.owed.len());
        let no = || Refusal::Game("no".into());
        let answer = match kind {
            "attach" | "activate" => {
                if yes {
                    *self.belief(seat) = Belief::Live;
                    let player = self.seats[&seat.0].1.clone();
                    let lived = self.lived.entry(player).or_default();
                    *lived = epoch_of(seat).max(*lived);
                    Answer::Placed(Ok(place()))
                } else {
                    self.seats.remove(&seat.0);
                    Answer::Placed(Err(no()))
                }
            }
            "reclaim" => {
                let Belief::Reclaiming { frozen, parked } = *self.belief(seat) else {
                    panic!("claim of another state")
                };
                *self.belief(seat) = if frozen { Belief::Frozen { parked } } else { Belief::Parked };
                let highest = Epoch(epoch_of(seat).0 + 1);
                match (yes, pick.is_multiple_of(2)) {
                    (true, _) => Answer::Placed(Ok(place())),
                    // Another home has the player; the host says what is to be done.
                    (false, true) => Answer::Placed(Err(Refusal::StaleEpoch { highest, saved: Some(highest) })),
                    (false, false) => Answer::Placed(Err(no())),
                }
            }
            "freeze" => {
                let Belief::FreezeAsked { parked } = *self.belief(seat) else { panic!("freeze of another state") };
                if yes {
                    *self.belief(seat) = Belief::Frozen { parked };
                    Answer::State(Ok(frozen()))
                } else {
                    *self.belief(seat) = if parked { Belief::Parked } else { Belief::Live };
                    Answer::State(Err(no()))
                }
            }
            "prepare" => {
                if yes {
                    *self.belief(seat) = Belief::Inert;
                    Answer::Prepared(Ok(()))
                } else {
                    self.seats.remove(&seat.0);
                    Answer::Prepared(Err(no()))
                }
            }
            "leave" => {
                self.seats.remove(&seat.0);
                Answer::Done
            }
            other => panic!("{other}"),
        };
        Some((seat, turn, answer))
    }
}

#[derive(Debug, Clone)]
enum Move {
    Attach { at: At, player: u8, session: u8, epoch: u64, from: Option<u64>, ready: bool },
    TakeOver { at: At, player: u8, session: u8, epoch: u64, refuse_connected: bool, ready: bool },
    Prepare { at: At, player: u8, session: u8, epoch: u64, ready: bool, intact: bool },
    Park { at: At, park: bool },
    Leave { at: At },
    Freeze { at: At, epoch: u64, ready: bool },
    Thaw { at: At },
    Release { at: At },
    Activate { at: At, epoch: u64 },
    Abort { at: At },
    Owner { at: At, player: u8, session: u8, epoch: u64, mine: bool },
    LinkUp(u32),
    LinkDown(u32),
    Lease { link: u32, lapsed: bool },
    Answer { pick: usize, yes: bool },
    StaleAnswer { seat: u32, turn: u64 },
    Eject { seat: u32 },
    Wait { ms: u64 },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let at = || (0u32..2, 0u32..4).prop_map(|(link, handle)| (LinkKey(link), handle));
    let who = || (0u8..3, 0u8..2);
    let epoch = || 0u64..9;
    let one = prop_oneof![
        4 => (at(), who(), epoch(), prop::option::weighted(0.3, epoch()), prop::bool::weighted(0.9))
            .prop_map(|(at, (player, session), epoch, from, ready)|
            Move::Attach { at, player, session, epoch, from, ready }),
        4 => (at(), who(), epoch(), prop::bool::weighted(0.2), prop::bool::weighted(0.9))
            .prop_map(|(at, (player, session), epoch, refuse_connected, ready)|
            Move::TakeOver { at, player, session, epoch, refuse_connected, ready }),
        3 => (at(), who(), epoch(), prop::bool::weighted(0.9), prop::bool::weighted(0.9))
            .prop_map(|(at, (player, session), epoch, ready, intact)|
            Move::Prepare { at, player, session, epoch, ready, intact }),
        1 => (at(), any::<bool>()).prop_map(|(at, park)| Move::Park { at, park }),
        1 => at().prop_map(|at| Move::Leave { at }),
        3 => (at(), epoch(), prop::bool::weighted(0.9)).prop_map(|(at, epoch, ready)| Move::Freeze { at, epoch, ready }),
        2 => at().prop_map(|at| Move::Thaw { at }),
        1 => at().prop_map(|at| Move::Release { at }),
        3 => (at(), epoch()).prop_map(|(at, epoch)| Move::Activate { at, epoch }),
        1 => at().prop_map(|at| Move::Abort { at }),
        1 => (at(), who(), epoch(), any::<bool>()).prop_map(|(at, (player, session), epoch, mine)|
            Move::Owner { at, player, session, epoch, mine }),
        1 => (0u32..2).prop_map(Move::LinkUp),
        1 => (0u32..2).prop_map(Move::LinkDown),
        1 => (0u32..2, any::<bool>()).prop_map(|(link, lapsed)| Move::Lease { link, lapsed }),
        8 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(pick, yes)| Move::Answer { pick, yes }),
        1 => (0u32..4, 1u64..20).prop_map(|(seat, turn)| Move::StaleAnswer { seat, turn }),
        1 => (0u32..4).prop_map(|seat| Move::Eject { seat }),
        2 => (0u64..3000).prop_map(|ms| Move::Wait { ms }),
    ];
    prop::collection::vec(one, 0..200)
}

const ALL: &[&str] = &["attach", "prepare", "leave", "freeze", "thaw", "release", "activate", "abort"];

struct Play {
    seats: Seats,
    world: ModelWorld,
    /// Requests that must be answered, by the handle they were made on, while that link is up.
    open: BTreeMap<At, Vec<&'static str>>,
    links: BTreeSet<LinkKey>,
    lapsed: BTreeSet<LinkKey>,
    /// Handles that were taken over, and that the gateway has not used again: nothing is said of them.
    silent: BTreeSet<At>,
    now: Mono,
}

/// How long the players of the first link are kept without one; those of the second are kept for ever.
const ORPHAN: Duration = Duration::from_secs(2);

impl Play {
    fn new() -> Self {
        let mut play = Self {
            seats: Seats::new(3, formats()),
            world: ModelWorld::default(),
            open: BTreeMap::new(),
            links: BTreeSet::new(),
            lapsed: BTreeSet::new(),
            silent: BTreeSet::new(),
            now: Mono(0),
        };
        for link in 0..2 {
            play.go(Move::LinkUp(link));
            play.go(Move::Lease { link, lapsed: false });
        }
        play
    }

    fn expects(&mut self, at: At, what: &'static str) {
        if ["attach", "prepare"].contains(&what) {
            self.silent.remove(&at);
        } else if self.silent.contains(&at) && what != "owner" {
            return;
        }
        self.open.entry(at).or_default().push(what);
    }

    fn go(&mut self, one: Move) {
        let mut steps = Vec::new();
        let out = &mut steps;
        let up = |play: &Self, at: At| play.links.contains(&at.0);
        // A gateway gives a handle to another only after its last stay's end was answered.
        let free = |play: &Self, at: At| {
            let ending = |what: &&str| ["leave", "release", "abort"].contains(what);
            up(play, at) && !play.open.get(&at).is_some_and(|open| open.iter().any(ending))
        };
        match one {
            Move::Attach { at, player, session, epoch, from, ready } if free(self, at) => {
                self.expects(at, "attach");
                let request = AttachRequest { from: from.map(Epoch), ..attach(player, session, epoch) };
                self.seats.attach(at, request, ready, out);
            }
            Move::TakeOver { at, player, session, epoch, refuse_connected, ready } if free(self, at) => {
                self.expects(at, "attach");
                let take_over = AttachRequest { take_over: true, refuse_connected, ..attach(player, session, epoch) };
                self.seats.attach(at, take_over, ready, out);
            }
            Move::Prepare { at, player, session, epoch, ready, intact } if free(self, at) => {
                self.expects(at, "prepare");
                let (who, epoch) = (who(player, session), Epoch(epoch));
                let (place, cause, channel, from, state) = (None, Cause::Zone, Channel::default(), None, frozen());
                let request = PrepareRequest { who, epoch, place, cause, channel, from, state, intact };
                self.seats.prepare(at, request, ready, out);
            }
            Move::Park { at, park } if up(self, at) => self.seats.park(at, park, out),
            Move::Leave { at } if up(self, at) => {
                self.expects(at, "leave");
                self.seats.leave(at, LeaveReason::Logout, out);
            }
            Move::Freeze { at, epoch, ready } if up(self, at) => {
                self.expects(at, "freeze");
                self.seats.freeze(at, Epoch(epoch), ready, out);
            }
            Move::Thaw { at } if up(self, at) => {
                self.expects(at, "thaw");
                self.seats.thaw(at, out);
            }
            Move::Release { at } if up(self, at) => {
                self.expects(at, "release");
                self.seats.release(at, out);
            }
            Move::Activate { at, epoch } if up(self, at) => {
                self.expects(at, "activate");
                self.seats.activate(at, Epoch(epoch), out);
            }
            Move::Abort { at } if up(self, at) => {
                // One that comes too late has no answer.
                let late = self
                    .seats
                    .seat_at(at)
                    .and_then(|seat| self.seats.slot(seat))
                    .is_some_and(|slot| !matches!(slot.phase, Phase::Preparing | Phase::Prepared));
                if !late {
                    self.expects(at, "abort");
                }
                self.seats.abort(at, out);
            }
            Move::Owner { at, player, session, epoch, mine } if up(self, at) => {
                self.expects(at, "owner");
                self.seats.owner(at, who(player, session).session, Epoch(epoch), mine, out);
            }
            Move::LinkUp(link) => {
                if self.links.insert(LinkKey(link)) {
                    self.lapsed.insert(LinkKey(link));
                    self.seats.link_up(LinkKey(link), Run(0), (link == 0).then_some(ORPHAN));
                }
            }
            Move::LinkDown(link) => {
                self.links.remove(&LinkKey(link));
                self.open.retain(|at, _| at.0 != LinkKey(link));
                self.silent.retain(|at| at.0 != LinkKey(link));
                self.seats.link_down(LinkKey(link), out);
            }
            Move::Lease { link, lapsed } if self.links.contains(&LinkKey(link)) => {
                if lapsed {
                    self.lapsed.insert(LinkKey(link));
                } else {
                    self.lapsed.remove(&LinkKey(link));
                }
                self.seats.lease(LinkKey(link), lapsed, out);
            }
            Move::Answer { pick, yes } => {
                let seats = &self.seats;
                let epoch_of = |seat: Seat| seats.slot(seat).expect("a seat that owes").epoch;
                if let Some((seat, turn, answer)) = self.world.answer(pick, yes, epoch_of) {
                    self.seats.answered(seat, turn, answer, out);
                }
            }
            Move::StaleAnswer { seat, turn } => {
                let pending = self.world.owed.iter().any(|owed| (owed.0, owed.1) == (Seat(seat), turn));
                if !pending {
                    self.seats.answered(Seat(seat), turn, Answer::Placed(Ok(place())), out);
                    assert!(steps.is_empty(), "a stale answer had an effect");
                }
            }
            Move::Wait { ms } => {
                self.now = self.now + Duration::from_millis(ms);
                self.seats.drop_orphans(self.now, out);
            }
            Move::Eject { seat } => self.seats.eject(Seat(seat), "test".into(), out),
            // On a link that is down nobody says anything.
            Move::Attach { .. }
            | Move::TakeOver { .. }
            | Move::Prepare { .. }
            | Move::Park { .. }
            | Move::Leave { .. }
            | Move::Freeze { .. }
            | Move::Thaw { .. }
            | Move::Release { .. }
            | Move::Activate { .. }
            | Move::Abort { .. }
            | Move::Owner { .. }
            | Move::Lease { .. } => {}
        }
        // The gateway's word gives it a meaning again.
        let seats = &self.seats;
        self.silent.retain(|at| seats.seat_at(*at).is_none());
        for step in &steps {
            self.world.step(step);
            if let Step::Say { at, what } = step {
                self.heard(*at, what);
            }
        }
        self.check();
    }

    /// The gateway's view: nothing comes on a dead link, every answer was asked for, and answers what it should.
    fn heard(&mut self, at: At, what: &Said) {
        assert!(self.links.contains(&at.0), "something was said on a dead link");
        assert!(!self.silent.contains(&at), "{what:?} is said of {at:?}, which was taken over");
        if matches!(what, Said::TakenOver { .. }) {
            self.silent.insert(at);
        }
        let open = self.open.entry(at).or_default();
        let pending = self.seats.seat_at(at).and_then(|seat| self.seats.slot(seat)).is_some_and(|slot| {
            matches!(
                slot.phase,
                Phase::Attaching | Phase::Preparing | Phase::Freezing | Phase::Activating | Phase::Reclaiming(_)
            )
        });
        let (asked, answered): (&[&str], &[&str]) = match what {
            // The last words about a handle answer everything that was asked on it.
            Said::Left => (&["leave"], ALL),
            Said::Released => (&["release"], ALL),
            Said::Aborted => (&["abort"], ALL),
            Said::Eject(reason) if reason == "fenced" => (&[], ALL),
            Said::Eject(_) => (&[], &[]),
            Said::TakenOver { .. } => (&[], ALL),
            Said::Attached { .. } => (&["attach"], &["attach", "activate", "prepare", "freeze", "thaw"]),
            Said::AttachRefused(_) if self.seats.seat_at(at).is_none() => (&["attach", "activate"], ALL),
            Said::AttachRefused(_) => (&["attach", "activate"], &["attach", "activate"]),
            Said::Frozen { .. } | Said::FreezeRefused(_) => (&["freeze"], &["freeze"]),
            // By a thaw, or by an owner's word under that handle.
            Said::Thawed => (&["thaw", "owner"], &["thaw", "freeze"]),
            Said::Prepared | Said::PrepareRefused(_) => (&["prepare"], &["prepare"]),
            Said::Activated { .. } => (&["activate"], &["activate"]),
        };
        let was_asked = asked.is_empty() || open.iter().any(|have| asked.contains(have));
        assert!(was_asked, "{what:?} was not asked for on {at:?}: {open:?}");
        if pending && matches!(what, Said::AttachRefused(_) | Said::PrepareRefused(_) | Said::FreezeRefused(_)) {
            // A request that made no sense is refused at once; the earlier one is still to be answered.
            let last = open.iter().rposition(|have| asked.contains(have));
            open.remove(last.expect("it was asked"));
        } else {
            open.retain(|have| !answered.contains(have));
        }
    }

    /// What must be true between any two steps.
    fn check(&self) {
        let mut players = BTreeSet::new();
        for (seat, slot) in self.seats.occupied() {
            match slot.phase {
                Phase::Gone(_) => assert!(slot.at.is_none()),
                Phase::Attaching
                | Phase::Playing
                | Phase::Freezing
                | Phase::Frozen(_)
                | Phase::Preparing
                | Phase::Prepared
                | Phase::Activating
                | Phase::Reclaiming(_)
                | Phase::Leaving => {
                    assert!(players.insert(slot.who.player.clone()), "two seats for {}", slot.who.player);
                }
            }
            if let Some(at) = slot.at {
                assert!(self.links.contains(&at.0), "bound to a dead link");
                assert_eq!(self.seats.seat_at(at), Some(seat), "handle and seat disagree");
                assert_eq!(slot.kept_until, None, "an orphan on a link");
            }
            // Whoever is looked for is found, in whatever state.
            assert!(self.seats.find(&slot.who.player, &slot.who.character).is_some());
            // No emission and no simulation outside the lease, or for a player who is not bound.
            if self.seats.is_live(seat) {
                let (link, _) = slot.at.expect("live without a link");
                assert!(!self.lapsed.contains(&link), "live under a lease that is over");
                assert_eq!(self.world.seats[&seat.0].0, Belief::Live, "the world believes something else");
            }
            match slot.phase {
                Phase::Attaching
                | Phase::Freezing
                | Phase::Preparing
                | Phase::Activating
                | Phase::Reclaiming(_)
                | Phase::Leaving
                | Phase::Gone(_) => {
                    assert!(self.world.owed.iter().any(|owed| owed.0 == seat), "it waits for an answer nobody owes");
                }
                Phase::Playing | Phase::Frozen(_) | Phase::Prepared => {}
            }
        }
        assert!(self.seats.occupied_count() <= 3 + self.gone(), "more players than there is room for");
        for (seat, ..) in &self.world.owed {
            assert!(self.seats.slot(*seat).is_some(), "an answer is owed for a free seat");
        }
        let held: BTreeSet<u32> = self.seats.occupied().map(|(seat, _)| seat.0).collect();
        assert!(
            self.world.seats.keys().all(|seat| held.contains(seat)),
            "the world holds a player the host has forgotten"
        );
    }

    fn gone(&self) -> u32 {
        self.seats.occupied().filter(|(_, slot)| matches!(slot.phase, Phase::Gone(_))).count() as u32
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens(moves in moves()) {
        let mut play = Play::new();
        for one in moves {
            play.go(one);
        }
        // Once the world has answered all it owes, nothing waits, and everything can be emptied.
        while !play.world.owed.is_empty() {
            play.go(Move::Answer { pick: 0, yes: true });
        }
        prop_assert_eq!(play.gone(), 0);
        for (at, open) in &play.open {
            let unanswered: Vec<_> = open.iter().filter(|what| **what != "owner").collect();
            prop_assert!(unanswered.is_empty(), "{unanswered:?} on {at:?}");
        }
        for link in 0..2 {
            play.go(Move::LinkUp(link));
            play.go(Move::Lease { link, lapsed: false });
            for handle in 0..4 {
                play.go(Move::Leave { at: (LinkKey(link), handle) });
                while !play.world.owed.is_empty() {
                    play.go(Move::Answer { pick: 0, yes: true });
                }
                prop_assert_eq!(play.seats.seat_at((LinkKey(link), handle)), None);
            }
        }
        prop_assert!(play.seats.occupied().all(|(_, slot)| slot.at.is_none()));
        // Those whose gateway does not come back for them go when their time is over.
        for _ in 0..2 {
            play.go(Move::Wait { ms: ORPHAN.as_millis() as u64 });
            while !play.world.owed.is_empty() {
                play.go(Move::Answer { pick: 0, yes: true });
            }
        }
        prop_assert!(play.seats.occupied().all(|(_, slot)| slot.orphan_after.is_none()));
    }
}
