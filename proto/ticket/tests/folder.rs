//! A ring's folder while people and programs write in it.

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{NOW, Signer, claims, realm};
use tidegate_ticket::{
    Algorithm, KeyError, KeyRing, LoginKey, REVOKED_FILE, ResumeKeys, Revocation, RingKey, Rules, Standing, Subject,
    Watcher, revoke,
};

fn add(folder: &Path, name: &str) -> LoginKey {
    let key = LoginKey::generate().unwrap();
    key.public().save_to_ring(&folder.join(format!("{name}.toml")), name, Algorithm::Both).unwrap();
    key
}

fn lets_in(ring: &KeyRing, key: &LoginKey) -> bool {
    ring.check(&key.mint(&claims()), &realm(), NOW).is_ok()
}

fn key_revocation(kid: &str) -> Revocation {
    Revocation { subject: Subject::Key(kid.into()), not_after: None, note: "lost".into() }
}

#[test]
fn every_form_of_a_key_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    for (name, text, algorithm) in [
        ("a.pub", signer.public_line(), Algorithm::PasetoV4),
        ("a.paserk", signer.public_paserk(), Algorithm::PasetoV4),
        ("a.pem", signer.public_pem(), Algorithm::JwtEddsa),
        ("a.toml", format!("key = '{}'", signer.public_paserk()), Algorithm::PasetoV4),
        ("a.toml", format!("key = '''\n{}'''\nalgorithm = 'both'", signer.public_pem()), Algorithm::Both),
        ("a.toml", format!("{}kid = 'a'\nalgorithm = 'jwt-eddsa'", signer.key_line()), Algorithm::JwtEddsa),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let ring = KeyRing::open(&path, Rules::default()).unwrap();
        let keys = ring.keys();
        assert_eq!((keys[0].kid(), keys[0].id(), keys[0].algorithm()), ("a", &*signer.public().id(), algorithm));
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn at_the_start_every_file_must_be_right() {
    let signer = Signer::new();
    let refused = |name: &str, text: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("good.pub"), Signer::new().public_line()).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let refused = KeyRing::open(folder.path(), Rules::default()).expect_err(text).to_string();
        assert!(refused.contains(name), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    };
    let line = signer.key_line();
    refused("a.pub", "");
    refused("a.pub", "tidegate-login-secret-v4 00");
    refused("a.pub", &signer.public_line()[..60]);
    refused("a.pub", &format!("{} more", signer.public_line()));
    refused("a.pem", &signer.public_pem()[..80]);
    refused("a.pem", &signer.public_pem().replace("PUBLIC", "PRIVATE"));
    refused("a.paserk", &signer.public_paserk().replace("k4.public", "k4.secret"));
    refused("a.toml", &format!("{line}algorithm = 'hs256'"));
    refused("a.toml", &format!("{line}not_after = 'tomorrow'"));
    refused("a.toml", &format!("{line}kid = 'two words'"));
    refused("a.toml", &format!("{line}kit = 'a'"));
    refused("a.toml", "kid = 'a'");
    refused("a.toml", &format!("{line}kid = 'good'"));
    refused(REVOKED_FILE, "[[revoked]]\nkey = 'a'\nplayer = 'b'");
    refused(REVOKED_FILE, "[[revoked]]\nkid = 'a'");
    refused(REVOKED_FILE, "[[revoked]]\nticket = 'a'");
    refused(REVOKED_FILE, "revoked");

    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(KeyRing::open(folder.path(), Rules::default()), Err(KeyError::Malformed { .. })), "no key");
    std::fs::write(folder.path().join("README.md"), "not a key").unwrap();
    let missing = folder.path().join("none");
    assert!(matches!(KeyRing::open(&missing, Rules::default()), Err(KeyError::Io { .. })));
}

#[test]
fn the_same_key_under_two_names_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new();
    std::fs::write(folder.path().join("a.pub"), signer.public_line()).unwrap();
    std::fs::write(folder.path().join("b.pub"), signer.public_line()).unwrap();
    let refused = KeyRing::open(folder.path(), Rules::default()).unwrap_err().to_string();
    assert!(refused.contains("b.pub") && refused.contains("already"), "{refused}");
}

#[test]
fn keys_come_and_go_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = add(folder.path(), "first");
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    assert!(!ring.reload(), "nothing has changed");
    let second = add(folder.path(), "second");
    assert!(!lets_in(&ring, &second));
    assert!(ring.reload());
    assert!(lets_in(&ring, &first) && lets_in(&ring, &second));
    // Gone at the second look without it.
    std::fs::remove_file(folder.path().join("first.toml")).unwrap();
    assert!(!ring.reload() && lets_in(&ring, &first));
    assert!(ring.reload() && !lets_in(&ring, &first));
    assert!(lets_in(&ring, &second));
    // The last key stays: an empty ring would let nobody in.
    std::fs::remove_file(folder.path().join("second.toml")).unwrap();
    (0..5).for_each(|_| assert!(!ring.reload()));
    std::fs::remove_dir_all(folder.path()).unwrap();
    (0..5).for_each(|_| assert!(!ring.reload()));
    assert!(lets_in(&ring, &second));
}

#[test]
fn a_bad_file_keeps_its_last_good_content_and_holds_up_no_revocation() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (add(folder.path(), "first"), add(folder.path(), "second"));
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    let path = folder.path().join("first.toml");
    for broken in ["", "key", "key = \"tidegate-login-public-v4 00\"", "\u{0}\u{1}"] {
        std::fs::write(&path, broken).unwrap();
        ring.reload();
        assert!(lets_in(&ring, &first) && lets_in(&ring, &second), "{broken}");
    }
    revoke(folder.path(), &key_revocation("second")).unwrap();
    assert!(ring.reload());
    assert!(lets_in(&ring, &first) && !lets_in(&ring, &second));
    assert_eq!(ring.standing("second", NOW), Some(Standing::Revoked));
    // A list that is broken, or looks shorter for a moment, takes nothing back.
    let list = folder.path().join(REVOKED_FILE);
    let whole = std::fs::read_to_string(&list).unwrap();
    for broken in ["[[revoked", "", "# nothing"] {
        std::fs::write(&list, broken).unwrap();
        ring.reload();
        assert!(!lets_in(&ring, &second), "{broken:?}");
    }
    std::fs::write(&list, &whole).unwrap();
    ring.reload();
    assert!(!lets_in(&ring, &second));
    // Two looks agree that it is empty: that is meant.
    std::fs::write(&list, "").unwrap();
    ring.reload();
    ring.reload();
    assert!(lets_in(&ring, &second));
}

#[test]
fn a_list_that_is_removed_is_over_at_the_second_look() {
    let folder = tempfile::tempdir().unwrap();
    let (_, second) = (add(folder.path(), "first"), add(folder.path(), "second"));
    let list = revoke(folder.path(), &key_revocation("second")).unwrap();
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    std::fs::remove_file(list).unwrap();
    assert!(!ring.reload() && !lets_in(&ring, &second));
    assert!(ring.reload() && lets_in(&ring, &second));
}

#[test]
fn a_single_file_is_a_ring_with_its_list_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let key = LoginKey::generate().unwrap();
    let path = folder.path().join("login.pub");
    key.public().save(&path).unwrap();
    let ring = KeyRing::open(&path, Rules::default()).unwrap();
    assert!(lets_in(&ring, &key));
    let list = revoke(&path, &key_revocation(key.kid())).unwrap();
    assert_eq!(list, folder.path().join(REVOKED_FILE));
    assert!(ring.reload() && !lets_in(&ring, &key));
}

#[test]
fn operators_who_revoke_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<LoginKey> = (0..8).map(|n| add(folder.path(), &format!("k{n}"))).collect();
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    std::thread::scope(|scope| {
        for n in 0..keys.len() {
            scope.spawn({
                let folder = folder.path();
                move || revoke(folder, &key_revocation(&format!("k{n}"))).unwrap()
            });
        }
    });
    assert!(ring.reload());
    assert!(keys.iter().all(|key| !lets_in(&ring, key)));
    let text = std::fs::read_to_string(folder.path().join(REVOKED_FILE)).unwrap();
    assert!(text.starts_with('#'), "remarks are kept: {text}");
}

/// Whatever happens to the folder meanwhile, in whatever manner, a key that is good is never refused and one that is
/// revoked is never let in.
#[test]
fn no_moment_of_a_folder_being_written_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (add(folder.path(), "good"), add(folder.path(), "bad"));
    revoke(folder.path(), &key_revocation("bad")).unwrap();
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    let good_text = std::fs::read_to_string(folder.path().join("good.toml")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // As a careless editor does it: truncated, then written.
        scope.spawn(|| {
            for n in 0..300 {
                std::fs::write(folder.path().join("good.toml"), format!("{good_text}# {n}\n")).unwrap();
                std::thread::yield_now();
            }
            done.store(true, Ordering::Relaxed);
        });
        // As our own tools do it: written beside, renamed.
        scope.spawn(|| {
            for n in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let extra = LoginKey::generate().unwrap();
                extra.public().save(&folder.path().join("extra.pub")).unwrap();
                revoke(folder.path(), &key_revocation(&format!("other-{n}"))).unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                ring.reload();
            }
        });
        let (good, bad) = (good.mint(&claims()), bad.mint(&claims()));
        while !done.load(Ordering::Relaxed) {
            assert!(ring.check(&good, &realm(), NOW).is_ok());
            assert!(ring.check(&bad, &realm(), NOW).is_err());
        }
    });
    ring.reload();
    let mut names: Vec<String> = ring.keys().iter().map(|key: &RingKey| key.kid().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["bad", "extra", "good"]);
}

#[test]
fn a_watcher_notices_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let key = add(folder.path(), "first");
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    let resume = ResumeKeys::open_or_create(&folder.path().join("resume.key")).unwrap();
    let watcher = Watcher::start(ring.clone(), resume).unwrap();
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    let wait_until = |condition: &dyn Fn() -> bool| {
        while !condition() {
            assert!(std::time::Instant::now() < patience, "the watcher did not notice");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let second = add(folder.path(), "second");
    wait_until(&|| lets_in(&ring, &second));
    revoke(folder.path(), &key_revocation("first")).unwrap();
    wait_until(&|| !lets_in(&ring, &key));
    assert!(lets_in(&ring, &second));
    drop(watcher);
}

/// From the moment a revocation is on disk until a watched ring refuses.
/// `cargo test -p tidegate-ticket --test folder -- --ignored --nocapture` prints it.
#[test]
#[ignore = "measures, and takes half a minute"]
fn how_long_a_revocation_takes() {
    const ROUNDS: u128 = 200;
    let folder = tempfile::tempdir().unwrap();
    let key = add(folder.path(), "first");
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    let resume = ResumeKeys::open_or_create(&folder.path().join("resume.key")).unwrap();
    let _watcher = Watcher::start(ring.clone(), resume).unwrap();
    let mut took: Vec<Duration> = (1_000..1_000 + ROUNDS)
        .map(|id| {
            let mut claims = claims();
            claims.id = uuid::Uuid::from_u128(id);
            let ticket = key.mint(&claims);
            assert!(ring.check(&ticket, &realm(), NOW).is_ok());
            let entry = Revocation { subject: Subject::Ticket(claims.id), not_after: None, note: String::new() };
            revoke(folder.path(), &entry).unwrap();
            let since = std::time::Instant::now();
            while ring.check(&ticket, &realm(), NOW).is_ok() {
                std::thread::sleep(Duration::from_micros(500));
            }
            since.elapsed()
        })
        .collect();
    took.sort();
    let percentile = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    println!(
        "revocation to refusal, {ROUNDS} rounds: p50 {:?}, p99 {:?}, longest {:?}",
        percentile(50),
        percentile(99),
        percentile(100)
    );
}
