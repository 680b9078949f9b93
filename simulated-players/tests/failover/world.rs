//! A world in one struct: it holds every session's channel, whichever gateway brings the player.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use prost::Message as _;
use tidegate_proto::stub::v1 as game;
use tokio::sync::watch;

/// How the world breaks its word when a player is taken over, without telling of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The next frame of the player is counted and forgotten.
    LosesOne,
    /// The next answer is given twice.
    RepeatsOne,
}

/// See the module's text.
pub(crate) struct World {
    fault: Fault,
    channels: Mutex<HashMap<u64, Channel>>,
    /// Take-overs.
    back: watch::Sender<u64>,
}

#[derive(Default)]
struct Channel {
    epoch: u64,
    /// The connection that has the session; what others bring is dropped.
    owner: usize,
    received: u64,
    applied: u64,
    /// Said and not acknowledged; the first has this number.
    kept: VecDeque<Bytes>,
    base: u64,
    /// The fault of a take-over is still to come.
    due: bool,
}

/// What a player who comes is told.
pub(crate) struct Coming {
    pub(crate) session: u64,
    pub(crate) epoch: u64,
    pub(crate) received: u64,
    /// What the player lacks.
    pub(crate) frames: Vec<Bytes>,
}

impl World {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, channels: Mutex::default(), back: watch::channel(0).0 }
    }

    /// Waits until so many sessions were taken over.
    pub(crate) async fn came_back(&self, count: u64) {
        self.back.subscribe().wait_for(|back| *back >= count).await.unwrap();
    }

    /// A new session.
    pub(crate) fn log_in(&self, owner: usize) -> Coming {
        let mut channels = self.channels.lock().unwrap();
        let session = channels.len() as u64 + 1;
        let channel = channels.entry(session).or_default();
        (channel.epoch, channel.owner) = (1, owner);
        let entered = game::Entered { zone: "harbor".into(), gold: 100, epoch: 1, ..game::Entered::default() };
        channel.say(game::event::Kind::Entered(entered));
        Coming { session, epoch: 1, received: 0, frames: channel.kept.iter().cloned().collect() }
    }

    /// A player comes back who has received so many frames.
    pub(crate) fn take_over(&self, session: u64, has: u64, owner: usize) -> Coming {
        let mut channels = self.channels.lock().unwrap();
        let channel = channels.get_mut(&session).expect("a session of this world");
        channel.epoch += 1;
        channel.owner = owner;
        channel.due = self.fault != Fault::None;
        channel.acknowledge(has);
        self.back.send_modify(|back| *back += 1);
        let frames = channel.kept.iter().cloned().collect();
        Coming { session, epoch: channel.epoch, received: channel.received, frames }
    }

    /// A frame of the player; what to send, and how many were received. `None`: another connection has the session.
    pub(crate) fn act(&self, session: u64, owner: usize, body: &[u8]) -> Option<(Vec<Bytes>, u64)> {
        let mut channels = self.channels.lock().unwrap();
        let channel = channels.get_mut(&session).filter(|channel| channel.owner == owner)?;
        channel.received += 1;
        let due = std::mem::take(&mut channel.due);
        if due && self.fault == Fault::LosesOne {
            return Some((Vec::new(), channel.received));
        }
        let action = game::Action::decode(body).unwrap();
        let in_order = action.sequence == channel.applied + 1;
        channel.applied += u64::from(in_order);
        let answer = game::Answer {
            sequence: action.sequence,
            ok: in_order,
            refused: if in_order { String::new() } else { "out_of_order".into() },
            epoch: channel.epoch,
            gold: 100,
            ..game::Answer::default()
        };
        let mut said = vec![channel.say(game::event::Kind::Answer(answer.clone()))];
        if due && self.fault == Fault::RepeatsOne {
            said.push(channel.say(game::event::Kind::Answer(answer)));
        }
        Some((said, channel.received))
    }

    /// The player has received so many.
    pub(crate) fn acknowledged(&self, session: u64, owner: usize, count: u64) {
        if let Some(channel) = self.channels.lock().unwrap().get_mut(&session).filter(|channel| channel.owner == owner)
        {
            channel.acknowledge(count);
        }
    }
}

impl Channel {
    fn say(&mut self, kind: game::event::Kind) -> Bytes {
        let frame = Bytes::from(game::Event { kind: Some(kind) }.encode_to_vec());
        self.kept.push_back(frame.clone());
        frame
    }

    fn acknowledge(&mut self, count: u64) {
        while self.base < count && self.kept.pop_front().is_some() {
            self.base += 1;
        }
    }
}
