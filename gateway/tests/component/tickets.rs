//! Tickets at a running gateway: both formats, every refusal as the client sees it, rotation and revocation without a
//! restart, and resume tickets among gateways.

use std::time::Duration;

use tidegate_proto::{CloseCode, v1};
use tidegate_ticket::{Algorithm, Format, LoginKey, Revocation, Subject, revoke};
use tidegate_types::{PlayerId, RealmId};

use crate::support::player::{TestPlayer, login};
use crate::support::{Scene, patient};

/// What the gateway says to this ticket: `None` lets in.
async fn refusal(scene: &Scene, ticket: String) -> Option<v1::Refused> {
    let mut player = TestPlayer::connect(&scene.gateway).await;
    player.hello(login(ticket)).await;
    match player.welcome_or_refused().await {
        Ok(_) => None,
        Err(refused) => {
            player.assert_closed(CloseCode::Refused).await;
            Some(refused)
        }
    }
}

async fn reason(scene: &Scene, ticket: String) -> String {
    refusal(scene, ticket).await.map_or_else(|| "let in".to_owned(), |refused| refused.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_formats_let_a_player_in_and_every_refusal_has_its_word() {
    let scene = Scene::start().await;
    let gateway = &scene.gateway;
    for format in [Format::Paseto, Format::Jwt] {
        let by = |key: &LoginKey| gateway.ticket_by(key, format, "anna", |_| ());
        let with = |change: fn(&mut tidegate_ticket::LoginClaims)| {
            gateway.ticket_by(gateway.login_key(), format, "anna", change)
        };
        let good = by(gateway.login_key());
        assert_eq!(reason(&scene, good.clone()).await, "let in");
        assert_eq!(reason(&scene, good.clone()).await, "ticket_used");
        assert_eq!(reason(&scene, with(|c| c.realm = RealmId::new("us-1").unwrap())).await, "wrong_realm");
        let late = with(|c| (c.issued, c.expires) = (c.issued - Duration::from_secs(70), c.issued));
        assert_eq!(reason(&scene, late).await, "ticket_expired");
        let early = with(|c| {
            (c.issued, c.expires) = (c.issued + Duration::from_secs(60), c.expires + Duration::from_secs(60));
        });
        let refused = refusal(&scene, early).await.unwrap();
        assert_eq!(refused.reason, "ticket_not_yet");
        assert!((1..=60_000).contains(&refused.retry_after_ms), "{refused:?}");

        // Whatever is wrong with a forgery, what is said is the same to the letter.
        let unnamed = LoginKey::generate().unwrap();
        let named_as_ours = unnamed.clone().with_kid("first");
        let long = with(|c| c.expires = c.issued + Duration::from_secs(3_600));
        let forgeries = [by(&unnamed), by(&named_as_ours), good[..good.len() / 2].to_owned(), good + ".", long];
        let mut told = Vec::new();
        for forgery in forgeries {
            told.push(refusal(&scene, forgery).await.expect("let in"));
        }
        told.push(refusal(&scene, "x".repeat(5_000)).await.expect("let in"));
        assert!(told.iter().all(|refused| *refused == told[0] && refused.reason == "ticket_invalid"), "{told:?}");
    }
    let causes = async {
        // Published once a second.
        let counted = r#"tidegate_gateway_login_tickets_refused_total{reason="unknown_key"}"#;
        while scene.gateway.metric(counted).await < 2.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patient("the counters", causes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_revoked_without_a_restart() {
    let scene = Scene::start().await;
    let gateway = &scene.gateway;
    let ring = gateway.config.ticket_keys.clone();
    let next = LoginKey::generate().unwrap().with_kid("next");
    assert_eq!(reason(&scene, gateway.ticket_by(&next, Format::Jwt, "anna", |_| ())).await, "ticket_invalid");
    next.public().save_to_ring(&ring.join("next.toml"), "next", Algorithm::Both).unwrap();
    becomes(&scene, "let in", || gateway.ticket_by(&next, Format::Jwt, "anna", |_| ())).await;
    assert_eq!(reason(&scene, gateway.ticket("anna")).await, "let in", "the old key still signs");

    let key = Revocation { subject: Subject::Key("first".into()), not_after: None, note: "stolen".into() };
    revoke(&ring, &key).unwrap();
    becomes(&scene, "ticket_invalid", || gateway.ticket("anna")).await;
    assert_eq!(reason(&scene, gateway.ticket_by(&next, Format::Paseto, "anna", |_| ())).await, "let in");

    let subject = Subject::Player(PlayerId::new("anna").unwrap());
    revoke(&ring, &Revocation { subject, not_after: None, note: String::new() }).unwrap();
    becomes(&scene, "ticket_invalid", || gateway.ticket_by(&next, Format::Paseto, "anna", |_| ())).await;
    assert_eq!(reason(&scene, gateway.ticket_by(&next, Format::Paseto, "bert", |_| ())).await, "let in");
}

/// Logs in with fresh tickets until this is what is said.
async fn becomes(scene: &Scene, expected: &str, ticket: impl Fn() -> String) {
    let says = async {
        while reason(scene, ticket()).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patient(expected, says).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resume_key_is_shared_and_the_gateways_own_secret_is_not() {
    let scene = Scene::start().await;
    let shared = scene.gateway.config.resume_key_path();
    assert_eq!(shared, scene.gateway.config.ticket_keys.with_file_name("resume.key"));
    let own = scene.gateway.data().join("connection-ids.key");
    assert_ne!(std::fs::read(&shared).unwrap(), std::fs::read(&own).unwrap());
    for secret in [shared, own] {
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&secret).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
        }
    }
}
