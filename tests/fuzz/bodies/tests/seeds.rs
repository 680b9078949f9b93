//! Writes the seeds that are generated, so that they follow the formats. Those made by hand stay as they are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use prost::Message;
use tidegate_fuzz::{Bench, MESSAGES};
use tidegate_proto::frame::{self, player};
use tidegate_proto::{packed, v1};
use tidegate_ticket::Format;

fn write(target: &str, name: &str, bytes: impl AsRef<[u8]>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
}

#[test]
#[ignore = "writes into the corpora"]
fn write_the_generated_seeds() {
    frames();
    messages();
    tickets();
    files();
}

fn frames() {
    let bench = Bench::get();
    let hello = v1::Hello { login_ticket: bench.login.mint(&bench.login_claims()), ..v1::Hello::default() };
    let mut stream = BytesMut::new();
    frame::put_message(&mut stream, player::HELLO, &hello);
    write("player_frames", "hello", &stream);
    frame::put(&mut stream, player::GAME, b"north");
    frame::put_message(&mut stream, player::ACK, &v1::Ack { received_frames: 12 });
    frame::put(&mut stream, player::GAME, b"");
    frame::put_message(&mut stream, player::GOODBYE, &v1::Goodbye::default());
    frame::put_message(&mut stream, player::ACK, &v1::Ack::default());
    write("player_frames", "a-session", &stream);
    write("player_frames", "game-before-hello", b"\x05\x01x");
    write("player_frames", "two-hellos", b"\x01\x00\x01\x00");
    write("player_frames", "length-of-2-to-the-62", b"\x01\xff\xff\xff\xff\xff\xff\xff\xff");
    write("player_frames", "long-varint-type", b"\xc0\x00\x00\x00\x00\x00\x00\x01\x40\x00\x45\x40\x01x");
    write("player_frames", "game-one-too-long", b"\x01\x00\x05\x80\x00\x40\x01");

    let mut stream = BytesMut::new();
    frame::put(&mut stream, frame::link::CONTROL, &v1::GatewayToWorld::default().encode_to_vec());
    frame::put_link_game(&mut stream, 65_535, b"north");
    frame::put_link_game(&mut stream, 0, b"");
    write("link_frames", "control-and-game", &stream);
    write("link_frames", "handle-beyond-32-bits", b"\x02\x09\xc0\x00\x00\x01\x00\x00\x00\x00x");
    write("link_frames", "game-without-handle", b"\x02\x00\x02\x01\xc0");
    write("link_frames", "one-too-long", b"\x01\x80\x11\x00\x01");
    write("link_frames", "half", &stream[..stream.len() - 1]);

    let mut datagram = BytesMut::new();
    packed::put(&mut datagram, 1, b"here");
    packed::put(&mut datagram, 70_000, b"");
    packed::put(&mut datagram, u32::MAX, &[7; 300]);
    write("link_packed", "three", &datagram);
    write("link_packed", "cut", &datagram[..datagram.len() - 1]);
    write("link_packed", "length-beyond-the-end", b"\x01\x3fab");
    write("link_packed", "handle-beyond-32-bits", b"\xc0\x00\x00\x01\x00\x00\x00\x00\x00");
}

fn messages() {
    let identity = v1::SessionIdentity {
        session_id: vec![7; 16],
        player: "ann".into(),
        character: "ann-1".into(),
        ..v1::SessionIdentity::default()
    };
    let attach = v1::Attach {
        handle: 3,
        identity: Some(identity.clone()),
        epoch: 4,
        cause: v1::Cause::Login as i32,
        channel: Some(v1::Channel {
            up: 1,
            down: 2,
            frames: vec![b"x".to_vec(), Vec::new()],
            ..v1::Channel::default()
        }),
        ..v1::Attach::default()
    };
    let to_world = v1::GatewayToWorld { message: Some(v1::gateway_to_world::Message::Attach(attach)) };
    let transfer =
        v1::Transfer { handles: vec![1, 2, 70_000], cause: v1::Cause::Zone as i32, ..v1::Transfer::default() };
    let to_gateway = v1::WorldToGateway { message: Some(v1::world_to_gateway::Message::Transfer(transfer)) };
    let welcome = v1::Welcome { environment_id: "e1".into(), ..v1::Welcome::default() };
    let bodies = [
        to_world.encode_to_vec(),
        to_gateway.encode_to_vec(),
        v1::Hello { login_ticket: "v4.public.x".into(), ..v1::Hello::default() }.encode_to_vec(),
        welcome.encode_to_vec(),
        v1::Hold { place: 7, ..v1::Hold::default() }.encode_to_vec(),
        v1::Refused { message: "no".into(), ..v1::Refused::default() }.encode_to_vec(),
        v1::Notice { text: "soon".into(), ..v1::Notice::default() }.encode_to_vec(),
        v1::Moved { gap_us: 9, ..v1::Moved::default() }.encode_to_vec(),
        v1::Goodbye { reason: "logout".into(), ..v1::Goodbye::default() }.encode_to_vec(),
        v1::Ack { received_frames: u64::MAX }.encode_to_vec(),
        v1::Relocate { within_ms: 1_000, ..v1::Relocate::default() }.encode_to_vec(),
    ];
    for (index, (name, body)) in MESSAGES.iter().zip(bodies).enumerate() {
        let bytes = [&[u8::try_from(index).unwrap()][..], &body].concat();
        write("control_messages", &format!("{name}.bin"), bytes);
    }
    write("control_messages", "endless-varint", b"\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    write("control_messages", "group-nesting", [&[0][..], &[0x0b; 200]].concat());
    write("control_messages", "text-that-is-not-utf8", b"\x02\x0a\x02\xff\xfe");
}

fn tickets() {
    let bench = Bench::get();
    let good = bench.login_claims();
    let paseto = bench.login.mint(&good);
    let jwt = bench.login.mint_as(Format::Jwt, &good);
    write("login_tickets", "paseto", &paseto);
    write("login_tickets", "jwt", &jwt);
    let named = bench.login.clone().with_kid("game-1").mint(&good);
    write("login_tickets", "paseto-unknown-key", named);
    let mut over = good.clone();
    (over.issued, over.expires) = (bench.now + Duration::from_secs(9_000), bench.now + Duration::from_secs(9_060));
    write("login_tickets", "paseto-not-yet", bench.login.mint(&over));
    let mut long = good.clone();
    long.expires = bench.now + Duration::from_secs(1_000_000);
    write("login_tickets", "jwt-lives-too-long", bench.login.mint_as(Format::Jwt, &long));
    let body = jwt.split('.').nth(1).unwrap();
    write("login_tickets", "jwt-alg-none", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{body}."));
    write("login_tickets", "jwt-alg-hs256", format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{body}.AAAA"));
    write("login_tickets", "paseto-truncated", &paseto[..paseto.len() / 2]);
    write("login_tickets", "paseto-local", paseto.replace("v4.public.", "v4.local."));
    write("login_tickets", "dots", "....");

    let sealed = bench.resume.seal(&bench.resume_claims(), bench.now);
    write("resume_tickets", "sealed", &sealed);
    write("resume_tickets", "truncated", &sealed[..sealed.len() - 5]);
    write("resume_tickets", "with-a-footer", format!("{sealed}.eA"));
    write("resume_tickets", "a-login-ticket", &paseto);
    write("resume_tickets", "header-alone", "v4.local.");
}

fn files() {
    let bench = Bench::get();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("game.toml");
    bench.login.public().save_to_ring(&path, "game-1", tidegate_ticket::Algorithm::Both).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    write("ticket_key_file", "ring.toml", &text);
    write("ticket_key_file", "with-times.toml", format!("{text}not_before = 2024-01-01T00:00:00Z\nrevoked = true\n"));
    bench.login.public().save(&path).unwrap();
    write("ticket_key_file", "line.pub", fs::read(&path).unwrap());
    write("ticket_key_file", "unknown-word.toml", format!("{text}algorithms = \"none\"\n"));
    write("ticket_key_file", "pem-of-nothing.pem", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n");

    let line = |digit: &str| format!("tidegate-resume-v4 {}", digit.repeat(64));
    write("resume_key_file", "one", line("0"));
    write("resume_key_file", "two", format!("# ours\n{}\n{} 2024-01-01T00:00:00Z\n", line("1"), line("f")));
    write("resume_key_file", "a-time-that-is-none", format!("{} tomorrow\n", line("1")));
    write("resume_key_file", "too-many", format!("{}\n", line("2")).repeat(17));
    write("resume_key_file", "digits-that-are-none", line("g"));

    let gateway = toml::to_string(&tidegate_gateway::Config::default()).unwrap();
    write("gateway_config", "defaults.toml", gateway);
    let manager = toml::to_string(&fleet_manager::Config::default()).unwrap();
    write("manager_config", "defaults.toml", manager);
    for target in ["gateway_config", "manager_config"] {
        write(target, "empty.toml", "");
        write(target, "unknown-key.toml", "lisen = \"127.0.0.1:1\"\n");
        write(target, "wrong-type.toml", "listen = 7\n[limits]\nconnections = -1\n");
        write(target, "twice.toml", "a = 1\na = 2\n");
        write(target, "newline-in-a-key.toml", "\"a\\nb\" = 1\n");
    }

    let manifest = serde_json::json!({
        "version": 1, "id": "s1", "realm": "eu-1", "environment": "e1", "build": "2.0.0", "taken": 1_700_000_000_000_u64,
        "paused_ms": 12, "spec": {"b": [{"y": 1, "x": 2.5e300}], "a": null}, "flags": {"f": true, "é": "ü"}, "assets": null,
        "database": {"digest": "aa", "bytes": 10},
        "zones": [{"zone": "a", "server": "x", "format": 1, "blob": {"digest": "bb", "bytes": u64::MAX}}],
    });
    write("snapshot_manifest", "whole.json", serde_json::to_string_pretty(&manifest).unwrap());
    let mut other = manifest.clone();
    other["version"] = 2.into();
    write("snapshot_manifest", "version-2.json", other.to_string());
    let mut other = manifest.clone();
    other["extra"] = 1.into();
    write("snapshot_manifest", "unknown-field.json", other.to_string());
    let mut other = manifest;
    other["zones"][0]["zone"] = "../../etc".into();
    other["zones"][0]["blob"]["digest"] = "../../passwd".into();
    write("snapshot_manifest", "paths-as-names.json", other.to_string());
    write("snapshot_manifest", "deep.json", "[".repeat(500));
}
