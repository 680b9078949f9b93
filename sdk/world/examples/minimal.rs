//! A whole world server: one zone in which everything a player says comes back. The character is its last words.
//!
//! The manager starts it with the `TIDEGATE_*` variables; give it a build's version: `minimal 1.0.0`.

use std::collections::HashMap;

use bytes::Bytes;
use tidegate_types::{Epoch, PlayerId};
use tidegate_world::{Arrival, Config, Cx, Formats, Frozen, Host, LeaveReason, Place, Refusal, Reply, Seat, World};

/// Who sits where, and what each said last. A real world keeps the saved ones in a database, guarded by epoch.
#[derive(Default)]
struct Echo {
    seated: HashMap<Seat, (PlayerId, Bytes)>,
    saved: HashMap<PlayerId, Bytes>,
}

fn town() -> Place {
    Place { zone: "town".parse().expect("a legal id"), instance: None }
}

impl World for Echo {
    fn formats(&self) -> Formats {
        Formats { read: vec![1], write: 1 }
    }
    fn attach(&mut self, _: &mut Cx<'_>, arrival: Arrival, reply: Reply<Result<Place, Refusal>>) {
        let last = self.saved.get(&arrival.player).cloned().unwrap_or_default();
        self.seated.insert(arrival.seat, (arrival.player, last));
        reply.send(Ok(town()));
    }
    fn message(&mut self, cx: &mut Cx<'_>, seat: Seat, body: Bytes) {
        cx.send(seat, &body);
        self.seated.entry(seat).and_modify(|(_, last)| *last = body);
    }
    fn leave(&mut self, _: &mut Cx<'_>, seat: Seat, _: LeaveReason, reply: Reply<()>) {
        self.saved.extend(self.seated.remove(&seat));
        reply.send(());
    }
    fn freeze(&mut self, _: &mut Cx<'_>, seat: Seat, reply: Reply<Result<Frozen, Refusal>>) {
        reply.send(Ok(Frozen { state: self.seated[&seat].1.clone(), format: 1 }));
    }
    fn thaw(&mut self, _: &mut Cx<'_>, _: Seat) {}
    fn release(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.seated.remove(&seat);
    }
    fn prepare(&mut self, _: &mut Cx<'_>, who: Arrival, frozen: Frozen, reply: Reply<Result<(), Refusal>>) {
        self.seated.insert(who.seat, (who.player, frozen.state));
        reply.send(Ok(()));
    }
    fn activate(&mut self, _: &mut Cx<'_>, _: Seat, _: Epoch, reply: Reply<Result<Place, Refusal>>) {
        reply.send(Ok(town()));
    }
    fn reclaim(&mut self, _: &mut Cx<'_>, _: Seat, _: Epoch, reply: Reply<Result<Place, Refusal>>) {
        reply.send(Ok(town()));
    }
    fn abort(&mut self, _: &mut Cx<'_>, seat: Seat) {
        self.seated.remove(&seat);
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let build = std::env::args().nth(1).unwrap_or_else(|| "1.0.0".to_owned()).parse()?;
    let host = Host::new(Config::from_env(build)?, Echo::default())?;
    Ok(host.run(tokio_util::sync::CancellationToken::new()).await?)
}
