//! The store keeps what it acknowledged: reopened, with a torn log, with a request id used twice.

use proptest::prelude::*;

use super::*;

fn row(key: &str, body: &str) -> RowWrite {
    RowWrite { table: Table::Environments, key: key.into(), realm: "r".into(), body: Some(body.into()) }
}

fn request(id: &str, answer: &[u8], done: bool) -> RequestRow {
    RequestRow {
        id: id.into(),
        rpc: "Flip".into(),
        digest: vec![1; 32],
        answer: answer.to_vec(),
        refusal: None,
        done,
        at_ms: 5,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        store.commit(Commit { rows: vec![row("a", "1"), row("b", "2")], ..Commit::default() }).await.unwrap();
        let gone = RowWrite { body: None, ..row("a", "") };
        store.commit(Commit { rows: vec![gone, row("b", "3")], ..Commit::default() }).await.unwrap();
    });
    let rows = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(rows, [RawRow { table: Table::Environments, key: "b".into(), realm: "r".into(), body: "3".into() }]);
}

#[test]
fn a_taken_request_id_undoes_its_whole_commit_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("manager.db")).unwrap();
    runtime().block_on(async {
        let first = Commit { request: Some(RequestWrite::New(request("q", b"one", true))), ..Commit::default() };
        store.commit(first.clone()).await.unwrap();
        let again = Commit { rows: vec![row("a", "1")], ..first };
        let other = Commit { rows: vec![row("b", "1")], ..Commit::default() };
        let (refused, kept) = tokio::join!(store.commit(again), store.commit(other));
        assert!(matches!(refused, Err(StoreError::RequestTaken)));
        kept.unwrap();
        assert_eq!(store.request("q").await.unwrap(), Some(request("q", b"one", true)));
        assert_eq!(store.load().unwrap().len(), 1);
    });
}

#[test]
fn the_first_final_answer_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("manager.db")).unwrap();
    runtime().block_on(async {
        let new = RequestWrite::New(request("q", b"begun", false));
        store.commit(Commit { request: Some(new), ..Commit::default() }).await.unwrap();
        for answer in [b"first", b"later"] {
            let finish = RequestWrite::Finish { id: "q".into(), answer: answer.to_vec(), refusal: None };
            store.commit(Commit { request: Some(finish), ..Commit::default() }).await.unwrap();
        }
        assert_eq!(store.request("q").await.unwrap().unwrap().answer, b"first");
    });
}

#[test]
fn old_requests_are_forgotten_by_age_and_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("manager.db")).unwrap();
    runtime().block_on(async {
        for n in 0..10_i64 {
            let new = RequestWrite::New(RequestRow { at_ms: n, ..request(&format!("q{n}"), b"", true) });
            store.commit(Commit { request: Some(new), ..Commit::default() }).await.unwrap();
        }
        let prune = Prune { requests_before_ms: 2, requests_limit: 5, audit_before_ms: 0 };
        store.commit(Commit { prune: Some(prune), ..Commit::default() }).await.unwrap();
        let mut kept = Vec::new();
        for n in 0..10 {
            if store.request(&format!("q{n}")).await.unwrap().is_some() {
                kept.push(n);
            }
        }
        assert_eq!(kept, [5, 6, 7, 8, 9]);
    });
}

#[test]
fn audit_records_are_numbered_paged_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("manager.db")).unwrap();
    runtime().block_on(async {
        let mut watch = store.watch_audit();
        for n in 0..5 {
            let record = AuditRow { subject: format!("s{}", n % 2), realm: "r".into(), ..AuditRow::default() };
            store.commit(Commit { audit: vec![record], ..Commit::default() }).await.unwrap();
        }
        assert_eq!(watch.recv().await.unwrap().sequence, 1);
        let sequences = async |query: AuditQuery| {
            store.audit(query).await.unwrap().into_iter().map(|r| r.sequence).collect::<Vec<_>>()
        };
        let all = AuditQuery { limit: 10, ..AuditQuery::default() };
        assert_eq!(sequences(all.clone()).await, [5, 4, 3, 2, 1]);
        assert_eq!(sequences(AuditQuery { before: Some(4), limit: 2, ..all.clone() }).await, [3, 2]);
        assert_eq!(sequences(AuditQuery { after: Some(3), ..all.clone() }).await, [4, 5]);
        assert_eq!(sequences(AuditQuery { subject: "s1".into(), ..all.clone() }).await, [4, 2]);
        assert_eq!(sequences(AuditQuery { realm: "other".into(), ..all }).await, [0_u64; 0]);
    });
}

#[test]
fn files_that_are_not_ours_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.db");
    std::fs::write(&text, "this is no database, but it is long enough to have a header of a hundred bytes ".repeat(4))
        .unwrap();
    assert!(matches!(Store::open(&text), Err(StoreError::NotOurs)));

    let other = dir.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(Store::open(&other), Err(StoreError::NotOurs)));

    let newer = dir.path().join("newer.db");
    drop(Store::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(&newer), Err(StoreError::Version { found: 99, .. })));
}

#[test]
fn a_damaged_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manager.db");
    runtime().block_on(async {
        let store = Store::open(&path).unwrap();
        for n in 0..200 {
            let wide = row(&format!("key-{n:04}"), &"x".repeat(500));
            store.commit(Commit { rows: vec![wide], ..Commit::default() }).await.unwrap();
        }
    });
    // Folds the log into the file, so that what is overwritten below is what would be read.
    Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let page = 4096;
    for (index, byte) in bytes[page..page * 20].iter_mut().enumerate() {
        *byte = (index % 251) as u8;
    }
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Damaged { .. })), "{:?}", Store::open(&path));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The log is cut at any byte, as a power cut would: every commit that was acknowledged before that byte was written
    /// is there, in full, and nothing of a commit is there in part.
    #[test]
    fn a_torn_log_keeps_every_acknowledged_commit(commits in 1_usize..12, cut in 0.0_f64..=1.0) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("manager.db");
        let wal = dir.path().join("manager.db-wal");
        let torn = dir.path().join("torn.db");
        let mut acknowledged = Vec::new();
        runtime().block_on(async {
            let store = Store::open(&path).unwrap();
            for n in 0..commits {
                let rows = vec![row(&format!("{n}-a"), "1"), row(&format!("{n}-b"), "2")];
                let new = RequestWrite::New(request(&format!("q{n}"), b"yes", true));
                store.commit(Commit { rows, request: Some(new), ..Commit::default() }).await.unwrap();
                acknowledged.push(std::fs::metadata(&wal).unwrap().len());
            }
            // Copied while open: closing would fold the log into the file.
            std::fs::copy(&path, &torn).unwrap();
            let bytes = std::fs::read(&wal).unwrap();
            // Never before the schema: a database that was never acknowledged to exist is another case.
            let first = usize::try_from(acknowledged[0]).unwrap();
            let length = first + ((bytes.len() - first) as f64 * cut) as usize;
            std::fs::write(dir.path().join("torn.db-wal"), &bytes[..length]).unwrap();
            acknowledged.retain(|&end| end <= length as u64);
        });
        let store = Store::open(&torn).unwrap();
        let keys: Vec<String> = store.load().unwrap().into_iter().map(|r| r.key).collect();
        runtime().block_on(async {
            for n in 0..commits {
                let a = keys.contains(&format!("{n}-a"));
                let b = keys.contains(&format!("{n}-b"));
                let q = store.request(&format!("q{n}")).await.unwrap().is_some();
                prop_assert!(a == b && b == q, "commit {} is there in part", n);
                prop_assert!(a || n >= acknowledged.len(), "commit {} was acknowledged and is gone", n);
            }
            Ok(())
        })?;
    }
}
