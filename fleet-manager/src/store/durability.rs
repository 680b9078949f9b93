//! What the store promises when it is interrupted: kill -9 at any instant, a log torn or damaged at any byte, a damaged
//! file, an old schema. A model of acknowledged commits is compared with what is found after reopening.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

/// One commit of the model: two rows, an audit record and a request, all or nothing.
fn commit(n: usize) -> Commit {
    let row = |part: &str| RowWrite {
        table: Table::Environments,
        key: format!("{n}-{part}"),
        realm: "r".into(),
        body: Some("x".repeat(10 + n % 300)),
    };
    let request = RequestRow {
        id: format!("q{n}"),
        rpc: "Flip".into(),
        digest: vec![1; 32],
        answer: b"yes".to_vec(),
        refusal: None,
        done: true,
        at_ms: 5,
    };
    let audit = AuditRow { subject: format!("q{n}"), ..AuditRow::default() };
    Commit {
        rows: vec![row("a"), row("b")],
        audit: vec![audit],
        request: Some(RequestWrite::New(request)),
        prune: None,
    }
}

/// The commits that a reopened store has. One that is there in part is a failure.
fn found(path: &Path) -> BTreeSet<usize> {
    // The writer ends with the store, in its own time; nothing here waits for it, so it must not matter.
    let store = Store::open_with(path, Check::Full).expect("the file opens");
    let keys: BTreeSet<String> = store.load().expect("reads").into_iter().map(|row| row.key).collect();
    let reader = store.reader();
    let ids = |sql: &str| -> BTreeSet<usize> {
        let mut statement = reader.prepare(sql).expect("a table");
        let ids = statement.query_map([], |row| row.get::<_, String>(0)).expect("reads");
        ids.map(|id| id.expect("text")[1..].parse().expect("a number")).collect()
    };
    let (requests, audit) = (ids("SELECT id FROM requests"), ids("SELECT subject FROM audit"));
    assert_eq!(requests, audit, "a commit is there in part");
    let of = |part: &str| -> BTreeSet<usize> {
        keys.iter().filter_map(|key| key.strip_suffix(part)?.parse().ok()).collect()
    };
    assert_eq!((&of("-a"), &of("-b")), (&requests, &requests), "a commit is there in part");
    requests
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A database with this many commits, as it stood on disk after each: the file, the log, and how long the log was when
/// each commit was acknowledged.
struct Taken {
    file: Vec<u8>,
    log: Vec<u8>,
    ends: Vec<usize>,
}

fn taken(commits: usize) -> Taken {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    let wal = dir.path().join("manager.db-wal");
    runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        let mut ends = Vec::new();
        for n in 0..commits {
            store.commit(commit(n)).await.unwrap();
            ends.push(usize::try_from(std::fs::metadata(&wal).unwrap().len()).unwrap());
        }
        // Read while open: closing would fold the log into the file.
        Taken { file: std::fs::read(&path).unwrap(), log: std::fs::read(&wal).unwrap(), ends }
    })
}

impl Taken {
    /// Opens the file with this log, and says which commits are there.
    fn with_log(&self, log: &[u8]) -> BTreeSet<usize> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manager.db");
        std::fs::write(&path, &self.file).unwrap();
        std::fs::write(dir.path().join("manager.db-wal"), log).unwrap();
        found(&path)
    }

    /// Commits whose acknowledgement came before anything at or after `byte` was written.
    fn acknowledged_before(&self, byte: usize) -> BTreeSet<usize> {
        (0..self.ends.len()).filter(|n| self.ends[*n] <= byte).collect()
    }

    /// Where a tear is tried: around every frame's header and every commit's end, and at random bytes between.
    fn tears(&self, seed: u64) -> BTreeSet<usize> {
        const HEADER: usize = 32;
        const FRAME: usize = 24 + 4096;
        let first = self.ends[0];
        let frames = (0..).map(|n| HEADER + n * FRAME).take_while(|at| *at <= self.log.len());
        let edges = frames.chain(self.ends.iter().copied()).flat_map(|at| [at.saturating_sub(1), at, at + 1, at + 24]);
        let mut rng = StdRng::seed_from_u64(seed);
        let random: Vec<usize> = (0..150).map(|_| rng.random_range(first..self.log.len())).collect();
        edges.chain(random).filter(|at| (first..self.log.len()).contains(at)).collect()
    }
}

#[test]
fn what_was_acknowledged_is_there_wherever_the_log_is_torn() {
    let taken = taken(6);
    assert_eq!(taken.with_log(&taken.log), (0..6).collect());
    for at in taken.tears(1) {
        let there = taken.with_log(&taken.log[..at]);
        let promised = taken.acknowledged_before(at);
        assert!(there.is_superset(&promised), "torn at {at}: {there:?} lacks some of {promised:?}");
        assert_eq!(there, (0..there.len()).collect(), "torn at {at}: a gap");
    }
}

#[test]
fn what_was_acknowledged_is_there_whatever_stands_in_the_torn_tail() {
    let taken = taken(6);
    let mut rng = StdRng::seed_from_u64(2);
    for at in taken.tears(2) {
        // What a power cut leaves behind the last synced byte: rubbish, zeroes, or a flipped bit and the rest as meant.
        let mut log = taken.log.clone();
        match rng.random_range(0..3) {
            0 => log[at..].fill_with(|| rng.random()),
            1 => log[at..].fill(0),
            _ => log[at] ^= 1 << rng.random_range(0..8),
        }
        let (there, promised) = (taken.with_log(&log), taken.acknowledged_before(at));
        assert!(there.is_superset(&promised), "damaged at {at}: {there:?} lacks some of {promised:?}");
        assert_eq!(there, (0..there.len()).collect(), "damaged at {at}: a gap");
    }
}

/// A database of the first schema, as the first program left it.
fn of_version_1(path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    schema::configure(&connection).unwrap();
    schema::create_first(&mut connection).unwrap();
    let insert = "INSERT INTO environments (key, realm, body) VALUES ('blue', 'r', '{}')";
    connection.execute(insert, []).unwrap();
}

fn version(path: &Path) -> i32 {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    schema::version_of(&connection).unwrap()
}

#[test]
fn an_older_schema_is_copied_and_then_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    of_version_1(&path);
    let rows = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["blue"]);
    assert_eq!(version(&path), 2);

    let copies = backup::list(&path);
    let [copy] = copies.as_slice() else { panic!("{copies:?}") };
    let name = copy.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("manager-v1-2") && name.ends_with("Z.db"), "{name}");
    assert_eq!(version(copy), 1);
    let readable = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let key: String = readable.query_row("SELECT key FROM environments", [], |row| row.get(0)).unwrap();
    assert_eq!(key, "blue");

    // No step, no copy; and an upgraded database has the very schema of a new one.
    drop(Store::open(&path).unwrap());
    assert_eq!(backup::list(&path).len(), 1);
    let fresh = dir.path().join("fresh/manager.db");
    std::fs::create_dir(dir.path().join("fresh")).unwrap();
    drop(Store::open(&fresh).unwrap());
    let schema = |path: &Path| -> BTreeSet<String> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut statement = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(schema(&path), schema(&fresh));
}

#[test]
fn without_a_copy_no_step_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    of_version_1(&path);
    // A file where the folder of copies should be.
    std::fs::write(dir.path().join("backups"), b"").unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Backup { .. })));
    assert_eq!(version(&path), 1);
}

#[test]
fn a_damaged_file_is_left_alone_and_the_advice_restores_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    of_version_1(&path);
    drop(Store::open(&path).unwrap());
    let copy = backup::list(&path).pop().unwrap();
    let whole = Connection::open(&path).unwrap();
    whole.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(whole);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096..].fill(7);
    for damage in [bytes.clone(), bytes[..9000].to_vec(), vec![7; 5000], Vec::new()] {
        std::fs::write(&path, &damage).unwrap();
        let line = Store::open(&path).expect_err("is refused").to_string();
        assert!(line.contains("damaged") && line.contains(copy.to_str().unwrap()), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(std::fs::read(&path).unwrap(), damage, "left as it was");
    }
    std::fs::remove_file(&path).unwrap();
    let line = Store::open(&path).expect_err("it was there once").to_string();
    assert!(line.contains("is not there"), "{line}");

    // The commands stand at the end of the line; what they cannot find is no matter.
    let commands = line.rsplit_once("play on): ").expect("commands").1;
    let shell = Command::new("sh").args(["-c", commands]).stderr(Stdio::null()).status().unwrap();
    assert!(shell.success(), "{commands}");
    assert_eq!(Store::open(&path).unwrap().load().unwrap().len(), 1);
}

#[test]
fn copies_are_made_when_due_and_old_ones_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    of_version_1(&path);
    runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        store.commit(commit(1)).await.unwrap();
        let hour = Duration::from_secs(3600);
        assert_eq!(store.back_up(hour, 2).await.unwrap(), None, "the one before the schema step is fresh");
        for _ in 0..4 {
            // Named by the millisecond.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let copy = store.back_up(Duration::ZERO, 2).await.unwrap().expect("is due");
            assert_eq!(found(&copy), BTreeSet::from([1]));
        }
    });
    let versions: Vec<bool> = backup::list(&path).iter().map(|copy| copy.to_string_lossy().contains("-v1-")).collect();
    assert_eq!(versions, [true, false, false], "two of now, and the one from before the step");
}

/// Names the folder of [`commits_until_it_is_killed`].
const FOLDER: &str = "STORE_TEST_FOLDER";

#[test]
#[ignore = "run by the tests below, in a process of its own"]
fn commits_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&Path::new(&folder).join("manager.db")).unwrap();
        let tasks = (0..4).map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in (task..).step_by(4) {
                    store.commit(commit(n)).await.unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {n}").and_then(|()| out.flush()).unwrap();
                }
            })
        });
        futures::future::join_all(tasks.collect::<Vec<_>>()).await;
    });
}

/// Lets a process commit, kills it after so many acknowledgements, and says which of them are not there.
fn lost_after_kill(acknowledgements: usize, sabotage: &str) -> BTreeSet<usize> {
    let dir = tempfile::tempdir().unwrap();
    let test = "store::durability::commits_until_it_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture", "--test-threads", "1"])
        .env(FOLDER, dir.path())
        .env(tidegate_types::sabotage::VARIABLE, sabotage)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BTreeSet::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The last line may be cut off; what the harness says is not ours.
        let Some(n) = line.unwrap().rsplit_once("acknowledged ").and_then(|(_, n)| n.parse::<usize>().ok()) else {
            continue;
        };
        said.insert(n);
        if said.len() == acknowledgements {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(said.len() >= acknowledgements, "it died by itself: {said:?}");
    let there = found(&dir.path().join("manager.db"));
    said.difference(&there).copied().collect()
}

#[test]
fn what_was_acknowledged_survives_kill_9_at_any_instant() {
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..12 {
        let after = rng.random_range(1..120);
        assert_eq!(lost_after_kill(after, ""), BTreeSet::new(), "killed after {after}");
    }
}

#[test]
fn a_store_that_answers_before_it_commits_is_caught() {
    let mut rng = StdRng::seed_from_u64(4);
    let caught = (0..60).any(|_| !lost_after_kill(rng.random_range(1..40), "ack_before_commit").is_empty());
    assert!(caught, "what is broken on purpose is not seen");
}
