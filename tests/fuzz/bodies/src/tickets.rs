//! Tickets. The key that signed the corpus is here, so that the fuzzer gets behind the signature: it signs nothing else.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_ticket::{Format, KeyRing, LoginClaims, LoginKey, MAX_TICKET_BYTES, ResumeClaims, ResumeKeys, Rules};
use tidegate_types::{Epoch, RealmId, SessionId, Timestamp};
use uuid::Uuid;

/// RFC 8032, section 7.1, test 1: known to everybody, good for nothing but this.
const LOGIN_SECRET: &str = "tidegate-login-secret-v4 \
    9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\
    d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n";
const RESUME_SECRET: &str = "tidegate-resume-v4 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// Keys, and the moment at which the corpus' tickets are good.
#[derive(Debug)]
pub struct Bench {
    /// The login service's key.
    pub login: LoginKey,
    /// A gateway's ring with it.
    pub ring: KeyRing,
    /// The gateways' resume key.
    pub resume: ResumeKeys,
    /// The realm that the tickets are for.
    pub realm: RealmId,
    /// Now.
    pub now: Timestamp,
    folder: TempDir,
}

impl Bench {
    /// The one of this process.
    ///
    /// # Panics
    /// If there is no temporary folder.
    #[must_use]
    pub fn get() -> &'static Self {
        static BENCH: OnceLock<Bench> = OnceLock::new();
        BENCH.get_or_init(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let login = LoginKey::load(&secret(folder.path(), "login", LOGIN_SECRET)).expect("a key");
            let resume = ResumeKeys::open_or_create(&secret(folder.path(), "resume", RESUME_SECRET)).expect("a key");
            let ring = KeyRing::fixed([login.public()], Rules::default());
            let realm = RealmId::new("eu-1").expect("an id");
            Self { login, ring, resume, realm, now: Timestamp(1_700_000_000_000), folder }
        })
    }

    /// Claims that are good now.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn login_claims(&self) -> LoginClaims {
        LoginClaims {
            id: Uuid::from_u128(7),
            realm: self.realm.clone(),
            player: "ann".parse().expect("an id"),
            character: "ann-1".parse().expect("an id"),
            party: Some("p1".parse().expect("an id")),
            client_version: "1.2.3".into(),
            issued: self.now,
            expires: self.now + Duration::from_secs(60),
            cohorts: vec!["testers".into()],
        }
    }

    /// Claims that are good now.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn resume_claims(&self) -> ResumeClaims {
        ResumeClaims {
            session: SessionId(Uuid::from_u128(9)),
            realm: self.realm.clone(),
            player: "ann".parse().expect("an id"),
            character: "ann-1".parse().expect("an id"),
            epoch: Epoch(3),
            expires: self.now + Duration::from_secs(3_600),
        }
    }

    /// A folder of this name for the files of one target, made anew for each thread.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let thread = format!("{name}-{:?}", std::thread::current().id());
        let path = self.folder.path().join(thread.replace(['(', ')'], ""));
        std::fs::create_dir_all(&path).expect("a temporary folder");
        path
    }
}

/// Writes a file that its owner alone can read.
pub(crate) fn secret(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a temporary file");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
    }
    path
}

/// A login ticket. Accepted is only what the key has signed: minted again from its claims it is the same text.
pub fn login_tickets(data: &[u8]) {
    let bench = Bench::get();
    let Ok(ticket) = std::str::from_utf8(data) else { return };
    let inspected = bench.ring.inspect(ticket, Some(&bench.realm), bench.now);
    match bench.ring.check(ticket, &bench.realm, bench.now) {
        Ok(claims) => {
            assert!(ticket.len() <= MAX_TICKET_BYTES);
            assert!(claims.realm == bench.realm && claims.expires > bench.now && claims.issued < claims.expires);
            let same = [Format::Paseto, Format::Jwt].map(|format| bench.login.mint_as(format, &claims));
            assert!(same.iter().any(|minted| minted == ticket), "accepted, and never signed: {ticket}");
            assert_eq!((inspected.verdict, inspected.claims), (Ok(()), Some(claims)));
        }
        Err(error) => {
            assert_eq!(inspected.verdict.as_ref(), Err(&error));
            // What the player is told names no value of the ticket's.
            assert!(error.message().len() < 200 && !error.to_string().is_empty());
        }
    }
    let later = bench.now + Duration::from_secs(3_600);
    assert!(bench.ring.check(ticket, &bench.realm, later).is_err(), "good an hour later");
    let elsewhere = RealmId::new("us-1").expect("an id");
    assert!(bench.ring.check(ticket, &elsewhere, bench.now).is_err(), "good for another realm");
}

/// A resume ticket. Accepted is only what was sealed, in time.
pub fn resume_tickets(data: &[u8]) {
    let bench = Bench::get();
    let Ok(ticket) = std::str::from_utf8(data) else { return };
    if let Ok(claims) = bench.resume.open(ticket, bench.now) {
        assert!(ticket.len() <= MAX_TICKET_BYTES && claims.expires > bench.now);
        // The only claims that the corpus' key has ever sealed.
        assert_eq!(claims, bench.resume_claims());
        assert!(bench.resume.open(ticket, claims.expires).is_err(), "good after its end");
        for end in [1, ticket.len() / 2, ticket.len() - 1] {
            assert!(bench.resume.open(&ticket[..end], bench.now).is_err(), "good though cut at {end}");
        }
    }
}
