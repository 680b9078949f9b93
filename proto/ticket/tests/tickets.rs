//! Login tickets against a ring: what lets a player in, and every way to be refused.

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use support::{NOW, Signer, claims, realm};
use tidegate_ticket::{Algorithm, Format, KeyRing, LoginKey, MAX_TICKET_BYTES, RingKey, Rules, TicketError, revoke};
use tidegate_ticket::{Revocation, Subject};
use tidegate_types::{RealmId, Timestamp};

const BOTH: [Format; 2] = [Format::Paseto, Format::Jwt];

/// What a ring of one key says to a ticket that this key signed.
fn check(format: Format, json: &str, at: Timestamp) -> Result<(), TicketError> {
    let signer = Signer::new();
    let ring = KeyRing::fixed([signer.public()], Rules::default());
    ring.check(&signer.sign(format, json), &realm(), at).map(drop)
}

fn label(outcome: Result<(), TicketError>) -> &'static str {
    outcome.expect_err("it was let in").label()
}

#[test]
fn a_ticket_of_either_format_says_what_was_minted() {
    let key = LoginKey::generate().unwrap();
    let ring = KeyRing::fixed([key.public()], Rules::default());
    for format in BOTH {
        assert_eq!(ring.check(&key.mint_as(format, &claims()), &realm(), NOW), Ok(claims()), "{format:?}");
        let mut alone = claims();
        (alone.party, alone.cohorts) = (None, vec![]);
        alone.issued = Timestamp(alone.issued.0 / 1_000 * 1_000);
        assert_eq!(ring.check(&key.mint_as(format, &alone), &realm(), NOW), Ok(alone), "{format:?}");
    }
}

#[test]
fn times_are_checked_alike_in_both_formats() {
    for format in BOTH {
        let at = |iat: i64, nbf: Option<i64>, exp: i64| check(format, &support::payload(format, iat, nbf, exp), NOW);
        assert_eq!(at(0, None, 60_000), Ok(()));
        assert_eq!(label(at(-60_000, None, 0)), "expired");
        assert_eq!(at(-60_000, None, 1), Ok(()));
        // The login service's clock may be ahead by two seconds.
        assert_eq!(at(2_000, None, 60_000), Ok(()));
        assert_eq!(label(at(2_001, None, 60_000)), "not_yet");
        assert_eq!(at(0, Some(2_000), 60_000), Ok(()));
        assert_eq!(label(at(0, Some(2_001), 60_000)), "not_yet");
        assert_eq!(at(0, None, 120_000), Ok(()));
        assert_eq!(label(at(0, None, 120_001)), "too_long_lived");
    }
}

#[test]
fn another_realm_is_refused() {
    let us = RealmId::new("us-1").unwrap();
    let signer = Signer::new();
    let ring = KeyRing::fixed([signer.public()], Rules::default());
    for format in BOTH {
        let ticket = signer.sign(format, &support::payload(format, 0, None, 60_000));
        let refused = ring.check(&ticket, &us, NOW).unwrap_err();
        assert_eq!(refused, TicketError::WrongRealm { ticket: realm(), asked: us.clone() });
        assert_eq!(refused.reason(), "wrong_realm");
    }
}

#[test]
fn one_audience_may_be_a_list_and_several_are_none() {
    let with = |aud: &str| support::payload(Format::Jwt, 0, None, 60_000).replace("\"eu-1\"", aud);
    assert_eq!(check(Format::Jwt, &with(r#"["eu-1"]"#), NOW), Ok(()));
    assert_eq!(label(check(Format::Jwt, &with(r#"["eu-1","us-1"]"#), NOW)), "bad_claim");
    assert_eq!(label(check(Format::Jwt, &with("[]"), NOW)), "bad_claim");
}

#[test]
fn what_is_signed_but_senseless_is_refused() {
    for format in BOTH {
        let whole = support::payload(format, 0, None, 60_000);
        let other = match format {
            Format::Paseto => support::payload(Format::Jwt, 0, None, 60_000),
            Format::Jwt => support::payload(Format::Paseto, 0, None, 60_000),
        };
        let cohorts = format!(r#""cohorts":[{}]"#, vec!["\"x\""; 65].join(","));
        for json in [
            r#"{"jti":"x"}"#.to_owned(),
            "[]".to_owned(),
            "null".to_owned(),
            // The times of the other format.
            other,
            whole.replace("\"p1\"", "\"a b\""),
            whole.replace("\"p1\"", "7"),
            whole.replace("00000000-0000-0000-0000-000000000007", "seven"),
            whole.replace("\"character\"", "\"charakter\""),
            whole.replace(r#""cohorts":[]"#, &cohorts),
            whole.replace("\"sub\"", "\"jti\":\"x\",\"sub\""),
        ] {
            assert_eq!(label(check(format, &json, NOW)), "bad_claim", "{format:?} {json}");
        }
    }
}

/// Every forgery is the same word and the same sentence to the player, whatever gave it away.
#[test]
fn forgeries_are_told_apart_by_nobody_but_the_operator() {
    let folder = tempfile::tempdir().unwrap();
    let [good, stranger, gone, over, early, listed, paseto, jwt] = std::array::from_fn(|_| Signer::new());
    let file = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    file("good.toml", format!("{}algorithm = \"both\"\n", good.key_line()));
    file("gone.toml", format!("{}revoked = true\nalgorithm = \"both\"\n", gone.key_line()));
    file("over.toml", format!("{}not_after = 2020-01-01T00:00:00Z\nalgorithm = \"both\"\n", over.key_line()));
    file("early.toml", format!("{}not_before = \"2100-01-01T00:00:00Z\"\nalgorithm = \"both\"\n", early.key_line()));
    file("listed.toml", format!("{}algorithm = \"both\"\n", listed.key_line()));
    file("paseto.pub", paseto.public_line());
    file("jwt.pem", jwt.public_pem());
    let gone_by_list = Revocation { subject: Subject::Key("listed".into()), not_after: None, note: String::new() };
    revoke(folder.path(), &gone_by_list).unwrap();
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();

    for (signer, kid, formats) in
        [(&good, "good", &BOTH[..]), (&paseto, "paseto", &[Format::Paseto]), (&jwt, "jwt", &[Format::Jwt])]
    {
        for format in formats {
            let json = support::payload(*format, 0, None, 60_000);
            for kid in [kid, &signer.public().id()] {
                assert!(ring.check(&signer.sign_as(*format, &json, Some(kid)), &realm(), NOW).is_ok(), "{kid}");
            }
        }
    }

    let mut forgeries: Vec<(String, &str)> = Vec::new();
    for format in BOTH {
        let json = support::payload(format, 0, None, 60_000);
        let sign = |signer: &Signer, kid: Option<&str>| signer.sign_as(format, &json, kid);
        let whole = sign(&good, Some("good"));
        forgeries.extend([
            (sign(&stranger, Some("good")), "bad_signature"),
            (sign(&stranger, Some("stranger")), "unknown_key"),
            (sign(&stranger, Some(&stranger.public().id())), "unknown_key"),
            (sign(&good, None), "no_key_named"),
            (sign(&good, Some("")), "malformed"),
            (sign(&good, Some(&"k".repeat(200))), "malformed"),
            (sign(&gone, Some("gone")), "key_revoked"),
            (sign(&listed, Some("listed")), "key_revoked"),
            // By its other name too.
            (sign(&listed, Some(&listed.public().id())), "key_revoked"),
            (sign(&over, Some("over")), "key_not_in_use"),
            (sign(&early, Some("early")), "key_not_in_use"),
            // A key of the other format.
            match format {
                Format::Paseto => (sign(&jwt, Some("jwt")), "wrong_algorithm"),
                Format::Jwt => (sign(&paseto, Some("paseto")), "wrong_algorithm"),
            },
            (format!("{whole}."), "malformed"),
            (format!("{whole}.e30"), "malformed"),
            (format!("{whole} "), "malformed"),
            (format!(" {whole}"), "malformed"),
            (format!("{whole}\n"), "malformed"),
            (format!("{whole}{}", "A".repeat(MAX_TICKET_BYTES)), "too_long"),
        ]);
        // A header of one format on the body of the other is checked as what it says it is.
        let body = whole.split('.').nth(if format == Format::Paseto { 2 } else { 1 }).unwrap();
        forgeries.push((format!("v4.local.{body}"), "malformed"));
        forgeries.push((format!("v3.public.{body}"), "malformed"));
        forgeries.push((format!("v2.public.{body}"), "malformed"));
    }
    forgeries.extend(confused(&good));
    forgeries
        .extend(["", ".", "..", "...", "v4.public.", "v4.public..", "eyJ", "eyJ.."].map(|t| (t.into(), "malformed")));

    for (ticket, expected) in &forgeries {
        let refused = ring.check(ticket, &realm(), NOW).expect_err(ticket);
        assert_eq!(refused.label(), *expected, "{ticket}: {refused}");
        let told = (refused.reason(), refused.message());
        assert_eq!(told, ("ticket_invalid", "the ticket is not valid here; get a new one"), "{ticket}");
        assert!(TicketError::LABELS.contains(&refused.label()));
    }
}

/// JWTs whose header asks to be checked in another way than by the key's own.
fn confused(key: &Signer) -> Vec<(String, &'static str)> {
    let json = support::payload(Format::Jwt, 0, None, 60_000);
    let signing = |header: &str| format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&json));
    let with = |header: &str, signature: &[u8]| format!("{}.{}", signing(header), URL_SAFE_NO_PAD.encode(signature));
    let public = key.public_bytes();
    let hs256 = r#"{"alg":"HS256","typ":"JWT","kid":"good"}"#;
    let mut tickets = vec![];
    // The public key as the secret of an HMAC, in every form in which somebody might have it.
    for secret in [public.clone(), key.public_line().into_bytes(), key.public_pem().into_bytes()] {
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        let tag = ring::hmac::sign(&secret, signing(hs256).as_bytes());
        tickets.push((with(hs256, tag.as_ref()), "wrong_algorithm"));
    }
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"good"}}"#);
        tickets.push((with(&header, b""), "malformed"));
        tickets.push((with(&header, &key.signature(signing(&header).as_bytes())), "malformed"));
    }
    for algorithm in ["RS256", "ES256", "PS512", "HS512"] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"good"}}"#);
        tickets.push((with(&header, &key.signature(signing(&header).as_bytes())), "wrong_algorithm"));
    }
    let eddsa = r#"{"alg":"EdDSA","kid":"good"}"#;
    tickets.push((with(eddsa, b""), "bad_signature"));
    tickets.push((with(eddsa, &[0; 64]), "bad_signature"));
    // A stranger who brings the key along.
    let stranger = Signer::new();
    let jwk = format!(
        r#"{{"alg":"EdDSA","kid":"good","jwk":{{"kty":"OKP","crv":"Ed25519","x":"{}"}}}}"#,
        URL_SAFE_NO_PAD.encode(stranger.public_bytes())
    );
    tickets.push((with(&jwk, &stranger.signature(signing(&jwk).as_bytes())), "bad_signature"));
    // Extensions that must be understood are not.
    let critical = r#"{"alg":"EdDSA","kid":"good","crit":["b64"],"b64":false}"#;
    tickets.push((with(critical, &key.signature(signing(critical).as_bytes())), "malformed"));
    tickets
}

#[test]
fn what_a_jwt_calls_itself_does_not_matter() {
    let signer = Signer::new();
    let ring = KeyRing::fixed([signer.public()], Rules::default());
    let json = support::payload(Format::Jwt, 0, None, 60_000);
    for header in [r#"{"alg":"EdDSA","typ":"at+jwt"}"#, r#"{"alg":"EdDSA"}"#, r#"{"alg":"EdDSA","typ":"x"}"#] {
        let signing = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&json));
        let ticket = format!("{signing}.{}", URL_SAFE_NO_PAD.encode(signer.signature(signing.as_bytes())));
        assert!(ring.check(&ticket, &realm(), NOW).is_ok(), "{header}");
    }
}

#[test]
fn a_ticket_that_names_no_key_needs_exactly_one() {
    let (first, second) = (Signer::new(), Signer::new());
    for format in BOTH {
        let ticket = first.sign_as(format, &support::payload(format, 0, None, 60_000), None);
        let ring = |keys: Vec<_>| KeyRing::fixed(keys, Rules::default()).check(&ticket, &realm(), NOW).map(drop);
        assert_eq!(ring(vec![first.public()]), Ok(()));
        assert_eq!(label(ring(vec![second.public()])), "bad_signature");
        assert_eq!(label(ring(vec![first.public(), second.public()])), "no_key_named");
        assert_eq!(label(ring(vec![])), "no_key_named");
    }
}

#[test]
fn a_revoked_ticket_and_a_revoked_player_are_refused_until_it_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let key = LoginKey::generate().unwrap();
    key.public().save_to_ring(&folder.path().join("a.toml"), "a", Algorithm::Both).unwrap();
    let until = NOW + Duration::from_secs(30);
    let mut other = claims();
    other.id = uuid::Uuid::from_u128(8);
    other.player = tidegate_types::PlayerId::new("p2").unwrap();
    let entries = [Subject::Ticket(claims().id), Subject::Player(other.player.clone())];
    for subject in entries {
        revoke(folder.path(), &Revocation { subject, not_after: Some(until), note: "a \"note\"\n".into() }).unwrap();
    }
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    for claims in [claims(), other.clone()] {
        let ticket = key.mint(&claims);
        assert_eq!(ring.check(&ticket, &realm(), NOW), Err(TicketError::Revoked));
        assert!(ring.check(&ticket, &realm(), until).is_ok());
    }
    assert!(ring.is_player_revoked(&other.player, NOW) && !ring.is_player_revoked(&other.player, until));
    assert!(!ring.is_player_revoked(&claims().player, NOW));
}

#[test]
fn an_inspection_shows_what_is_claimed_and_why_not() {
    let signer = Signer::new();
    let ring = KeyRing::fixed([signer.public()], Rules::default());
    let late = support::payload(Format::Jwt, -90_000, None, -30_000);
    let told = ring.inspect(&signer.sign(Format::Jwt, &late), None, NOW);
    assert_eq!(told.format, Some(Format::Jwt));
    assert_eq!(told.claims.unwrap().player.as_str(), "p1");
    assert_eq!(told.verdict.unwrap_err().label(), "expired");
    let forged = ring.inspect(&Signer::new().sign(Format::Jwt, &late), None, NOW);
    assert!(forged.claims.is_none(), "what nobody signed is nobody's word");
    assert_eq!(forged.kid, None);
}

#[test]
fn a_ring_knows_its_keys_by_two_names() {
    let key = LoginKey::generate().unwrap();
    let ring = KeyRing::fixed([key.public()], Rules::default());
    assert_eq!(ring.keys().iter().map(RingKey::id).collect::<Vec<_>>(), [key.kid()]);
    let folder = tempfile::tempdir().unwrap();
    key.public().save_to_ring(&folder.path().join("x.toml"), "2026-11", Algorithm::Both).unwrap();
    let ring = KeyRing::open(folder.path(), Rules::default()).unwrap();
    for key in [key.clone(), key.with_kid("2026-11")] {
        for format in BOTH {
            assert!(ring.check(&key.mint_as(format, &claims()), &realm(), NOW).is_ok(), "{}", key.kid());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Any change of any byte, anything taken out or put in: refused. The exact bytes: let in.
    #[test]
    fn a_ticket_is_good_in_its_exact_bytes_alone(
        jwt in any::<bool>(),
        named in any::<bool>(),
        position in any::<prop::sample::Index>(),
        cut in 0usize..3,
        to in "[A-Za-z0-9._=+/ -]{0,3}",
    ) {
        let signer = Signer::new();
        let ring = KeyRing::fixed([signer.public()], Rules::default());
        let format = if jwt { Format::Jwt } else { Format::Paseto };
        let kid = signer.public().id();
        let json = support::payload(format, 0, None, 60_000);
        let ticket = signer.sign_as(format, &json, named.then_some(&kid));
        prop_assert!(ring.check(&ticket, &realm(), NOW).is_ok());
        let mut changed = ticket.clone();
        let at = position.index(ticket.len() + 1);
        changed.replace_range(at..(at + cut).min(ticket.len()), &to);
        prop_assume!(changed != ticket);
        prop_assert!(ring.check(&changed, &realm(), NOW).is_err(), "{ticket} -> {changed}");
        // Truncated.
        prop_assert!(at == ticket.len() || ring.check(&ticket[..at], &realm(), NOW).is_err());
    }

    #[test]
    fn one_flipped_bit_is_refused(jwt in any::<bool>(), position in any::<prop::sample::Index>(), bit in 0u8..7) {
        let key = LoginKey::generate().unwrap();
        let ring = KeyRing::fixed([key.public()], Rules::default());
        let ticket = key.mint_as(if jwt { Format::Jwt } else { Format::Paseto }, &claims());
        let mut bytes = ticket.into_bytes();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(ring.check(std::str::from_utf8(&bytes).unwrap(), &realm(), NOW).is_err());
    }

    #[test]
    fn garbage_is_refused(start in prop::sample::select(vec!["", "v4.public.", "eyJ", "v4.local."]), text in ".{0,200}") {
        let key = LoginKey::generate().unwrap();
        let ring = KeyRing::fixed([key.public()], Rules::default());
        let refused = ring.check(&format!("{start}{text}"), &realm(), NOW).unwrap_err();
        prop_assert_eq!(refused.reason(), "ticket_invalid");
    }
}
