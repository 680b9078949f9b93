//! Gold is conserved and every action is applied once: three servers, one real database, players that trade, spend, move,
//! and go on where the last save left them when a server dies or is fenced off in the middle of anything.
//!
//! The model beside it is each player's wealth, which only a committed trade changes, and the set of committed trades.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use tidegate_proto::stub::v1::{Action, Give, Ping, SpendItem, action};
use tidegate_types::{Cause, Mono};

use super::{Game, Out, Place, Rules, SaveFor, Who};
use crate::character::{Formats, worth};
use crate::db::work::{self, Attach, Claim, STARTING_GOLD, Traded, Written};
use crate::db::{BANK_GOLD, open};

const SERVERS: usize = 3;
const PLAYERS: usize = 4;

#[derive(Debug, Clone)]
enum Op {
    /// The player does something, wherever they are in play.
    Act { player: usize, what: What },
    /// A hand-over; with `fails`, it is undone before its commit.
    HandOver { player: usize, to: usize, fails: bool },
    /// The server's process dies, after the first so many of its waiting jobs were committed.
    Crash { server: usize, committed: usize },
    /// The gateway believes the player's home to be gone and brings them elsewhere, while the home goes on.
    Steal { player: usize, to: usize },
    /// Some of a server's waiting jobs are committed and answered.
    Commit { server: usize, jobs: usize },
    /// Time passes, saves fall due.
    Tick { server: usize },
}

#[derive(Debug, Clone)]
enum What {
    Ping,
    Buy,
    Sell,
    Give { to: usize, gold: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let what = prop_oneof![
        1 => Just(What::Ping),
        2 => Just(What::Buy),
        1 => Just(What::Sell),
        5 => (0..PLAYERS, 0..60_u64).prop_map(|(to, gold)| What::Give { to, gold }),
    ];
    let op = prop_oneof![
        10 => (0..PLAYERS, what).prop_map(|(player, what)| Op::Act { player, what }),
        3 => (0..PLAYERS, 0..SERVERS, any::<bool>()).prop_map(|(player, to, fails)| Op::HandOver { player, to, fails }),
        1 => (0..SERVERS, 0..4_usize).prop_map(|(server, committed)| Op::Crash { server, committed }),
        1 => (0..PLAYERS, 0..SERVERS).prop_map(|(player, to)| Op::Steal { player, to }),
        4 => (0..SERVERS, 1..6_usize).prop_map(|(server, jobs)| Op::Commit { server, jobs }),
        2 => (0..SERVERS).prop_map(|server| Op::Tick { server }),
    ];
    prop::collection::vec(op, 1..120)
}

struct Server {
    name: String,
    game: Game,
    /// Saves and trades on their way to the database, in order.
    jobs: VecDeque<Out>,
}

/// A player as their client knows them.
#[derive(Default)]
struct Player {
    epoch: u64,
    home: Option<usize>,
    actions: Vec<action::Kind>,
}

struct Realm {
    db: Connection,
    path: std::path::PathBuf,
    _dir: tempfile::TempDir,
    servers: Vec<Server>,
    players: Vec<Player>,
    now: Mono,
    /// The model: what each player is worth by the trades that are committed.
    worth: Vec<u64>,
    traded: BTreeSet<(String, u64)>,
}

fn name(player: usize) -> String {
    format!("c{player}")
}

fn index(character: &str) -> usize {
    character[1..].parse().unwrap()
}

fn seat(player: usize) -> u32 {
    u32::try_from(player).unwrap()
}

fn game(server: &str) -> Game {
    Game::new(Rules {
        server_id: server.to_owned(),
        environment_id: "eu-1-a".to_owned(),
        zones: Arc::new(BTreeSet::from(["harbor".to_owned()])),
        kinds: BTreeSet::new(),
        formats: Formats::of_build(1, None).unwrap(),
        save_every: Duration::from_secs(2),
    })
}

impl Realm {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("world.db");
        let db = open(&path).unwrap();
        let servers = (0..SERVERS)
            .map(|n| {
                let name = format!("s{n}");
                work::register(&db, &name, &name, "1.9.0", "boot", Mono(0)).unwrap();
                Server { game: game(&name), name, jobs: VecDeque::new() }
            })
            .collect();
        let mut realm = Self {
            db,
            path,
            _dir: dir,
            servers,
            players: (0..PLAYERS).map(|_| Player::default()).collect(),
            now: Mono(0),
            worth: vec![STARTING_GOLD.unsigned_abs(); PLAYERS],
            traded: BTreeSet::new(),
        };
        for player in 0..PLAYERS {
            realm.attach(player, player % SERVERS, Cause::Login);
        }
        realm
    }

    /// The player comes in at the next epoch and sends again whatever the home does not know of.
    fn attach(&mut self, player: usize, to: usize, cause: Cause) {
        let character = name(player);
        let who = Who { player: character.clone(), character: character.clone(), party: None };
        let mut out = Vec::new();
        self.servers[to].game.release(seat(player), &mut out);
        self.take(to, out);
        // The claim queues up behind what the same process has submitted.
        self.commit(to, usize::MAX);
        self.players[player].epoch += 1;
        let formats = self.servers[to].game.rules().formats.clone();
        let request = Attach {
            claim: Claim {
                player: character.clone(),
                character,
                epoch: self.players[player].epoch,
                from: None,
                instance: self.servers[to].name.clone(),
                at: self.now,
            },
            placed: false,
            zones: self.servers[to].game.rules().zones.clone(),
            entry: Some("harbor".to_owned()),
            endowed: true,
            formats: formats.clone(),
        };
        let saved = work::attach(&self.db, &request).unwrap().unwrap();
        let state = formats.decode(saved.format, &saved.state).unwrap();
        let applied = state.applied;
        let life = self.servers[to].game.next_life();
        let mut out = Vec::new();
        let harbor = Place::shared("harbor");
        self.servers[to].game.arrive(seat(player), life, who, saved.epoch, state, harbor, cause, self.now, &mut out);
        self.take(to, out);
        self.players[player].home = Some(to);
        for sequence in applied + 1..=self.players[player].actions.len() as u64 {
            self.send(player, sequence, true);
        }
    }

    fn send(&mut self, player: usize, sequence: u64, again: bool) {
        let Some(home) = self.players[player].home else { return };
        let kind = self.players[player].actions[usize::try_from(sequence).unwrap() - 1].clone();
        let mut out = Vec::new();
        let action = Action { sequence, again, kind: Some(kind) };
        self.servers[home].game.action(seat(player), action, self.now, &mut out);
        self.take(home, out);
    }

    /// What a game said: jobs wait, the rest does not matter here.
    fn take(&mut self, server: usize, said: Vec<Out>) {
        self.servers[server]
            .jobs
            .extend(said.into_iter().filter(|out| matches!(out, Out::Save { .. } | Out::Trade { .. })));
    }

    /// Commits the server's next job. Its game learns of it unless the process is to die.
    fn next_job(&mut self, server: usize, told: bool) -> bool {
        let Some(job) = self.servers[server].jobs.pop_front() else { return false };
        let mut out = Vec::new();
        match job {
            Out::Save { seat, life, saved, why, .. } => {
                let outcome = Ok(work::save(&self.db, &saved).unwrap());
                if told {
                    self.servers[server].game.saved(seat, life, why, &outcome, self.now, &mut out);
                }
            }
            Out::Trade { id, giver, receiver } => {
                let outcome = work::trade(&self.db, &giver.saved, &receiver.saved).unwrap();
                if outcome == Traded::Yes {
                    self.trade_committed(&giver.saved, &receiver.saved);
                }
                if told {
                    self.servers[server].game.traded(id, &Ok(outcome), self.now, &mut out);
                }
            }
            _ => {}
        }
        if told {
            self.take(server, out);
        }
        true
    }

    fn trade_committed(&mut self, giver: &work::Saved, receiver: &work::Saved) {
        let (from, to) = (index(&giver.character), index(&receiver.character));
        let sequence = usize::try_from(giver.applied).unwrap();
        let action::Kind::Give(give) = &self.players[from].actions[sequence - 1] else {
            panic!("the action of a trade is a gift")
        };
        assert_eq!(give.to, receiver.character);
        assert!(self.traded.insert((giver.character.clone(), giver.applied)), "a gift is given once");
        self.worth[from] -= give.gold;
        self.worth[to] += give.gold;
    }

    fn commit(&mut self, server: usize, jobs: usize) {
        for _ in 0..jobs {
            if !self.next_job(server, true) {
                return;
            }
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Act { player, what } => {
                self.players[player].actions.push(match what {
                    What::Ping => action::Kind::Ping(Ping::default()),
                    What::Buy => action::Kind::Item(SpendItem { sell: false }),
                    What::Sell => action::Kind::Item(SpendItem { sell: true }),
                    What::Give { to, gold } => action::Kind::Give(Give { to: name(to), gold }),
                });
                self.send(player, self.players[player].actions.len() as u64, false);
            }
            Op::HandOver { player, to, fails } => self.hand_over(player, to, fails),
            Op::Crash { server, committed } => {
                for _ in 0..committed {
                    self.next_job(server, false);
                }
                self.servers[server].jobs.clear();
                self.servers[server].game = game(&self.servers[server].name);
                for player in 0..PLAYERS {
                    if self.players[player].home == Some(server) {
                        self.attach(player, (server + 1) % SERVERS, Cause::Crash);
                    }
                }
            }
            Op::Steal { player, to } => {
                if self.players[player].home != Some(to) {
                    self.attach(player, to, Cause::Crash);
                }
            }
            Op::Commit { server, jobs } => self.commit(server, jobs),
            Op::Tick { server } => {
                self.now = self.now + Duration::from_millis(700);
                let mut out = Vec::new();
                self.servers[server].game.step(self.now, |_| true, &mut out);
                self.take(server, out);
            }
        }
    }

    fn hand_over(&mut self, player: usize, to: usize, fails: bool) {
        let Some(from) = self.players[player].home.filter(|from| *from != to) else { return };
        let mut out = Vec::new();
        if !self.servers[from].game.freeze(seat(player), self.now, &mut out) {
            return;
        }
        self.take(from, out);
        // The freeze answers when its save is committed, behind all that was submitted before (and may wait for trades).
        let mut blob = None;
        for _ in 0..200 {
            if let Some(Out::Save { seat: of, why: SaveFor::Freeze, saved, .. }) = self.servers[from].jobs.front()
                && *of == seat(player)
            {
                blob = Some(saved.clone());
            }
            if !self.next_job(from, true) || blob.is_some() {
                break;
            }
        }
        let mut out = Vec::new();
        let epoch = self.players[player].epoch;
        let (Some(blob), false) = (blob, fails) else {
            self.servers[from].game.thaw(seat(player), self.now, &mut out);
            self.take(from, out);
            return;
        };
        if work::load(&self.db, &blob.character).unwrap().unwrap().epoch != epoch {
            return;
        }
        let formats = self.servers[to].game.rules().formats.clone();
        let state = formats.decode(blob.format, &blob.state).unwrap();
        let who = Who { player: name(player), character: name(player), party: None };
        let epoch = epoch + 1;
        let (from_epoch, harbor) = (Some(epoch - 1), Place::shared("harbor"));
        self.servers[to].game.prepare(seat(player), who, from_epoch, epoch, state, harbor, self.now);
        let (life, who, from_epoch, _, carried) = self.servers[to].game.activating(seat(player), epoch).unwrap();
        let claim = Claim {
            player: who.player,
            character: who.character,
            epoch,
            from: from_epoch,
            instance: self.servers[to].name.clone(),
            at: self.now,
        };
        let saved = work::activate(&self.db, &claim, &carried, &formats).unwrap().unwrap();
        assert_eq!(saved, carried, "what was frozen is what was saved");
        let state = formats.decode(saved.format, &saved.state).unwrap();
        self.servers[to].game.activated(seat(player), life, state, self.now, &mut out);
        self.take(to, out);
        self.players[player].epoch = epoch;
        self.players[player].home = Some(to);
        let mut out = Vec::new();
        self.servers[from].game.release(seat(player), &mut out);
        self.take(from, out);
    }

    /// The invariants, in the database, at any moment.
    fn check(&self) -> Result<(), TestCaseError> {
        let audit = crate::ledger::audit(&self.path).unwrap();
        prop_assert_eq!(audit.gold_total, BANK_GOLD.unsigned_abs());
        let formats = Formats::of_build(1, None).unwrap();
        for player in 0..PLAYERS {
            let row = work::load(&self.db, &name(player)).unwrap().unwrap();
            let state = formats.decode(row.format, &row.state).unwrap();
            prop_assert_eq!((state.gold, state.items, state.applied), (row.gold, row.items, row.applied));
            prop_assert_eq!(worth(&state), self.worth[player], "player {}", player);
        }
        Ok(())
    }

    /// Everything ends: all jobs are committed, everybody is saved.
    fn settle(&mut self) {
        // A few rounds: a trade that waited for another one's end is submitted only then.
        for _ in 0..4 {
            for server in 0..SERVERS {
                self.now = self.now + Duration::from_secs(3);
                let mut out = Vec::new();
                self.servers[server].game.step(self.now, |_| true, &mut out);
                self.take(server, out);
                self.commit(server, 10_000);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn gold_is_conserved_and_every_action_applied_once(ops in ops()) {
        let mut realm = Realm::new();
        for op in ops {
            realm.run(op);
            realm.check()?;
        }
        realm.settle();
        realm.check()?;
        let mut applied = BTreeMap::new();
        for player in 0..PLAYERS {
            let row = work::load(&realm.db, &name(player)).unwrap().unwrap();
            applied.insert(player, (row.applied, realm.players[player].actions.len() as u64));
        }
        for (player, (applied, sent)) in applied {
            prop_assert_eq!(applied, sent, "player {}'s actions are all applied in the end", player);
        }
        let astray: u64 = realm.servers.iter().map(|s| s.game.counters().out_of_order).sum();
        prop_assert_eq!(astray, 0);
    }
}

/// The harness itself can fail: a home that ignores the guard would make gold out of nothing.
#[test]
fn without_the_epoch_guard_gold_is_made() {
    let mut realm = Realm::new();
    let stale = work::load(&realm.db, &name(0)).unwrap().unwrap();
    realm.run(Op::HandOver { player: 1, to: 0, fails: false });
    realm.run(Op::Act { player: 0, what: What::Give { to: 1, gold: 40 } });
    realm.run(Op::Commit { server: 0, jobs: 9 });
    realm.check().unwrap();
    realm.run(Op::Steal { player: 0, to: 2 });
    assert_eq!(work::save(&realm.db, &stale).unwrap(), Written::Stale);
    realm.check().unwrap();
    // The same write, with the guard taken out.
    realm
        .db
        .execute("UPDATE characters SET gold = 100, state = ?2 WHERE character = ?1", (&stale.character, &stale.state))
        .unwrap();
    assert!(realm.check().is_err());
}
