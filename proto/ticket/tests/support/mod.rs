//! A login service that signs whatever it is told.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pasetors::keys::AsymmetricSecretKey;
use pasetors::version4::{PublicToken, V4};
use ring::signature::Ed25519KeyPair;
use tidegate_ticket::{Format, LoginClaims, LoginKey, LoginPublicKey};
use tidegate_types::{CharacterId, PartyId, PlayerId, RealmId, Timestamp};
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_123);

pub(crate) fn realm() -> RealmId {
    RealmId::new("eu-1").unwrap()
}

pub(crate) fn claims() -> LoginClaims {
    LoginClaims {
        id: Uuid::from_u128(7),
        realm: realm(),
        player: PlayerId::new("p1").unwrap(),
        character: CharacterId::new("c1").unwrap(),
        party: Some(PartyId::new("them").unwrap()),
        client_version: "2.0.0".into(),
        issued: NOW,
        expires: NOW + Duration::from_secs(60),
        cohorts: vec!["early".into()],
    }
}

/// Claims as JSON, with times in milliseconds from [`NOW`].
pub(crate) fn payload(format: Format, iat: i64, nbf: Option<i64>, exp: i64) -> String {
    let time = |offset: i64| match format {
        Format::Paseto => format!("\"{}\"", jiff::Timestamp::from_millisecond(NOW.0 + offset).unwrap()),
        Format::Jwt => format!("{}", (NOW.0 + offset) as f64 / 1_000.0),
    };
    let nbf = nbf.map_or(String::new(), |nbf| format!("\"nbf\":{},", time(nbf)));
    format!(
        r#"{{"jti":"00000000-0000-0000-0000-000000000007","aud":"eu-1","sub":"p1","iat":{},{nbf}"exp":{},"character":"c1","cohorts":[]}}"#,
        time(iat),
        time(exp)
    )
}

pub(crate) struct Signer {
    key: LoginKey,
    /// Seed and public key.
    secret: Vec<u8>,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let key = LoginKey::generate().unwrap();
        key.save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let digits = text.split_whitespace().nth(1).unwrap();
        let secret = (0..64).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect();
        Self { key, secret }
    }

    pub(crate) fn public(&self) -> &LoginPublicKey {
        self.key.public()
    }

    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        self.secret[32..].to_vec()
    }

    pub(crate) fn public_line(&self) -> String {
        let digits: String = self.public_bytes().iter().map(|b| format!("{b:02x}")).collect();
        format!("tidegate-login-public-v4 {digits}\n")
    }

    pub(crate) fn key_line(&self) -> String {
        format!("key = \"{}\"\n", self.public_line().trim())
    }

    pub(crate) fn public_paserk(&self) -> String {
        format!("k4.public.{}", URL_SAFE_NO_PAD.encode(self.public_bytes()))
    }

    pub(crate) fn public_pem(&self) -> String {
        let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        der.extend(self.public_bytes());
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let pair = Ed25519KeyPair::from_seed_and_public_key(&self.secret[..32], &self.secret[32..]).unwrap();
        pair.sign(message).as_ref().to_vec()
    }

    pub(crate) fn sign(&self, format: Format, json: &str) -> String {
        self.sign_as(format, json, None)
    }

    pub(crate) fn sign_as(&self, format: Format, json: &str, kid: Option<&str>) -> String {
        match format {
            Format::Paseto => {
                let secret = AsymmetricSecretKey::<V4>::from(&self.secret).unwrap();
                let footer = kid.map(|kid| match kid.starts_with("k4.pid.") {
                    true => kid.to_owned(),
                    false => format!(r#"{{"kid":"{kid}","more":1}}"#),
                });
                PublicToken::sign(&secret, json.as_bytes(), footer.as_ref().map(String::as_bytes), None).unwrap()
            }
            Format::Jwt => {
                let kid = kid.map_or(String::new(), |kid| format!(r#","kid":"{kid}""#));
                let header = format!(r#"{{"alg":"EdDSA","typ":"JWT"{kid}}}"#);
                let signing = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(json));
                format!("{signing}.{}", URL_SAFE_NO_PAD.encode(self.signature(signing.as_bytes())))
            }
        }
    }
}
