//! What the fuzzer does with its bytes: one function a target. Each feeds what comes from strangers to the function that
//! reads it in earnest, and checks what must hold of every answer.
//!
//! Refuses to know where the bytes come from: the fuzzer, the committed corpora, and the tests' mutations use the same
//! functions.

mod files;
mod tickets;
mod wire;

pub use files::{gateway_config, manager_config, resume_key_file, snapshot_manifest, ticket_key_file};
pub use tickets::{Bench, login_tickets, resume_tickets};
pub use wire::{MESSAGES, control_messages, link_frames, link_packed, player_frames};

/// A target's body.
pub type Body = fn(&[u8]);

/// Every target by its name: the file in `fuzz_targets` and the folder in `corpus`.
pub const TARGETS: &[(&str, Body)] = &[
    ("player_frames", player_frames),
    ("link_frames", link_frames),
    ("link_packed", link_packed),
    ("control_messages", control_messages),
    ("login_tickets", login_tickets),
    ("resume_tickets", resume_tickets),
    ("ticket_key_file", ticket_key_file),
    ("resume_key_file", resume_key_file),
    ("gateway_config", gateway_config),
    ("manager_config", manager_config),
    ("snapshot_manifest", snapshot_manifest),
];
