//! WIRE.md is true: its hex examples are what the codec writes and reads, its message tables are what the protos say, and
//! its close codes and limits are the code's.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tidegate_proto::frame::{self, link, player};
use tidegate_proto::v1::{self, gateway_to_world, world_to_gateway};
use tidegate_proto::{CloseCode, DESCRIPTORS, packed, varint};

const PAGE: &str = include_str!("../WIRE.md");

/// The page's ```` ```hex name ```` blocks.
fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else { continue };
        let mut bytes = Vec::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let hex = line.split('#').next().unwrap_or_default();
            bytes.extend(hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect(name)));
        }
        assert!(found.insert(name, bytes).is_none(), "two examples are called {name}");
    }
    found
}

fn control(kind: u64, message: &impl Message) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_message(&mut out, kind, message);
    out.to_vec()
}

fn game(body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put(&mut out, player::GAME, body);
    out.to_vec()
}

fn link_game(handle: u32, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::put_link_game(&mut out, handle, body);
    out.to_vec()
}

fn to_world(message: gateway_to_world::Message) -> Vec<u8> {
    control(link::CONTROL, &v1::GatewayToWorld { message: Some(message) })
}

fn to_gateway(message: world_to_gateway::Message) -> Vec<u8> {
    control(link::CONTROL, &v1::WorldToGateway { message: Some(message) })
}

fn login() -> v1::Hello {
    v1::Hello {
        realm: "eu-1".into(),
        login_ticket: "v4.public.e30".into(),
        client_version: "1.0.0".into(),
        ..v1::Hello::default()
    }
}

fn datagram() -> Vec<u8> {
    let mut out = BytesMut::new();
    packed::put(&mut out, 7, b"hi");
    packed::put(&mut out, 300, b"abc");
    out.to_vec()
}

#[test]
fn the_hex_examples_are_what_the_codec_writes() {
    let resume = v1::Hello {
        realm: "eu-1".into(),
        resume_ticket: "v4.local.e30".into(),
        received_frames: 300,
        sent_frames: 7,
        client_version: "1.0.0".into(),
        ..v1::Hello::default()
    };
    let hello = v1::LinkHello {
        gateway_id: "gw-1".into(),
        gateway_instance: (1..=16).collect(),
        realm: "eu-1".into(),
        lease_ms: 3000,
        stream: 1,
        streams: 4,
        orphan_ms: 0,
    };
    let goodbye = v1::Goodbye { reason: "logout".into(), message: String::new() };
    let written = BTreeMap::from([
        ("hello-login", control(player::HELLO, &login())),
        ("hello-resume", control(player::HELLO, &resume)),
        ("game-short", game(b"hi")),
        ("game-long", game(&[0xaa; 100])),
        ("ack", control(player::ACK, &v1::Ack { received_frames: 300 })),
        ("hold", control(player::HOLD, &v1::Hold { place: 3, reason: "full".into() })),
        ("goodbye", control(player::GOODBYE, &goodbye)),
        ("link-hello", to_world(gateway_to_world::Message::Hello(hello))),
        ("heartbeat", to_gateway(world_to_gateway::Message::Heartbeat(v1::Heartbeat { sequence: 5, players: 2 }))),
        ("heartbeat-ack", to_world(gateway_to_world::Message::HeartbeatAck(v1::HeartbeatAck { sequence: 5 }))),
        ("link-game", link_game(7, b"hi")),
        ("link-game-300", link_game(300, b"hi")),
        ("packed-datagram", datagram()),
    ]);
    let on_page = examples();
    for (name, bytes) in &written {
        assert_eq!(on_page.get(name), Some(bytes), "{name}: the codec writes {bytes:02x?}");
    }
    assert_eq!(on_page.len(), written.len(), "an example on the page is compared with nothing");
}

#[test]
fn the_hex_examples_are_what_the_codec_reads() {
    let examples = examples();
    let read = |name: &str, limit| {
        let mut input = BytesMut::from(&examples[name][..]);
        let frame = frame::take(&mut input, limit).unwrap().unwrap();
        assert!(input.is_empty(), "{name} is more than one frame");
        frame
    };
    assert_eq!(v1::Hello::decode(read("hello-login", frame::MAX_PLAYER_BODY).body).unwrap(), login());
    assert_eq!(v1::Ack::decode(read("ack", frame::MAX_PLAYER_BODY).body).unwrap().received_frames, 300);
    assert_eq!(read("game-long", frame::MAX_GAME_BODY).body, [0xaa; 100][..]);
    let split = frame::split_link_game(read("link-game-300", frame::MAX_LINK_BODY).body);
    assert_eq!(split, Some((300, Bytes::from_static(b"hi"))));
    let mut datagram = Bytes::from(examples["packed-datagram"].clone());
    assert_eq!(packed::take(&mut datagram), Some((7, Bytes::from_static(b"hi"))));
    assert_eq!(packed::take(&mut datagram), Some((300, Bytes::from_static(b"abc"))));
    assert_eq!(packed::take(&mut datagram), None);
}

/// Rows of the table under `heading`, split into cells.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    PAGE.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .skip(1)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn type_of(field: &FieldDescriptorProto) -> String {
    let word = match field.r#type() {
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Bool => "bool",
        Type::Uint32 => "uint32",
        Type::Uint64 => "uint64",
        Type::Int64 => "int64",
        Type::Message | Type::Enum => field.type_name().rsplit('.').next().unwrap_or_default(),
        other => panic!("the page has no word for {other:?}"),
    };
    if field.label() == Label::Repeated { format!("repeated {word}") } else { word.to_owned() }
}

fn messages() -> Vec<DescriptorProto> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let ours = ["tidegate/v1/player.proto", "tidegate/v1/link.proto"];
    files.into_iter().filter(|file| ours.contains(&file.name())).flat_map(|file| file.message_type).collect()
}

#[test]
fn the_message_tables_are_what_the_protos_say() {
    let messages = messages();
    assert!(messages.len() > 40, "both files were found");
    for message in &messages {
        let said: Vec<[String; 3]> =
            message.field.iter().map(|f| [f.number().to_string(), f.name().to_owned(), type_of(f)]).collect();
        let on_page: Vec<[String; 3]> = rows(&format!("#### {}", message.name()))
            .iter()
            .map(|cells| [0, 1, 2].map(|i| cells.get(i).copied().unwrap_or_default().to_owned()))
            .collect();
        assert_eq!(on_page, said, "the table of {}", message.name());
    }
    let headings = PAGE.lines().filter(|line| line.starts_with("#### ")).count();
    assert_eq!(headings, messages.len(), "the page describes a message that is none");
}

#[test]
fn the_refusal_reasons_are_what_the_proto_says() {
    for number in 1..=9 {
        let reason = v1::RefusalReason::try_from(number).unwrap();
        let word = reason.as_str_name().trim_start_matches("REFUSAL_REASON_");
        assert!(PAGE.contains(&format!("\n| {number} | `{word}` |")), "{number} {word}");
    }
    assert!(v1::RefusalReason::try_from(10).is_err(), "a reason that the page does not know");
}

#[test]
fn the_causes_are_what_the_proto_says() {
    let causes: Vec<String> = (1..=8)
        .map(|n| format!("{n} `{}`", v1::Cause::try_from(n).unwrap().as_str_name().trim_start_matches("CAUSE_")))
        .collect();
    let sentence = PAGE.replace('\n', " ");
    for cause in causes {
        assert!(sentence.contains(&cause), "{cause}");
    }
    assert!(v1::Cause::try_from(9).is_err(), "a cause that the page does not know");
}

#[test]
fn the_close_codes_are_the_codes() {
    let codes = [
        CloseCode::Done,
        CloseCode::BadFrame,
        CloseCode::FrameTooLong,
        CloseCode::BadMessage,
        CloseCode::HelloTimeout,
        CloseCode::Refused,
        CloseCode::TooSlow,
        CloseCode::Replaced,
        CloseCode::Shutdown,
        CloseCode::TooManyStreams,
        CloseCode::Internal,
        CloseCode::TooFast,
    ];
    let on_page: Vec<(String, String)> =
        rows("### 1.5 Close codes").iter().map(|cells| (cells[0].to_owned(), cells[1].to_owned())).collect();
    let said: Vec<(String, String)> =
        codes.iter().map(|code| ((*code as u32).to_string(), format!("{code:?}"))).collect();
    assert_eq!(on_page, said);
}

#[test]
fn the_frame_types_are_the_types() {
    let types = [
        ("Hello", player::HELLO),
        ("Welcome", player::WELCOME),
        ("Hold", player::HOLD),
        ("Refused", player::REFUSED),
        ("Game", player::GAME),
        ("Notice", player::NOTICE),
        ("Moved", player::MOVED),
        ("Goodbye", player::GOODBYE),
        ("Ack", player::ACK),
        ("Relocate", player::RELOCATE),
    ];
    let on_page: Vec<(&str, String)> =
        rows("### 2.1 Frame types").iter().map(|cells| (cells[1], cells[0].to_owned())).collect();
    assert_eq!(on_page, types.map(|(name, kind)| (name, format!("{kind:#04x}"))));
    let on_page: Vec<(&str, String)> =
        rows("### 3.2 Streams and frames").iter().map(|cells| (cells[1], cells[0].to_owned())).collect();
    assert_eq!(on_page, [("Control", link::CONTROL), ("Game", link::GAME)].map(|(n, k)| (n, format!("{k:#04x}"))));
}

#[test]
fn the_limits_are_the_limits() {
    let limits = rows("## 4 Limits");
    let limit = |what: &str| limits.iter().find(|cells| cells[0] == what).expect(what)[1];
    assert_eq!(limit("Game body"), thousands(frame::MAX_GAME_BODY));
    assert_eq!(limit("player's control body"), thousands(frame::MAX_PLAYER_BODY));
    assert_eq!(limit("link's frame body"), format!("{} (1 MiB + 64 KiB)", thousands(frame::MAX_LINK_BODY)));
    assert_eq!(varint::MAX, (1 << 62) - 1);
}

fn thousands(bytes: usize) -> String {
    let digits = bytes.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + " bytes"
}
