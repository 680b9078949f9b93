//! The probe player's way through an environment: login, a hand-over to another server, its state carried once more and
//! brought back, and out.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_proto::v1::{self, gateway_to_world as to, world_to_gateway as from};
use tidegate_types::{Clock as _, EnvironmentId, ServerId, SystemClock};
use uuid::Uuid;

use super::Outcome;
use super::peer::Peer;

/// Most answers to `Attach` that send the probe elsewhere (stale epoch, wrong zone) before the login counts as failed.
const LOGIN_ATTEMPTS: usize = 5;

/// The probe, and the links it has.
#[derive(Debug)]
pub(super) struct Journey {
    peers: BTreeMap<ServerId, Peer>,
    identity: v1::SessionIdentity,
    home: Option<Home>,
}

/// Where the probe is.
#[derive(Debug, Clone)]
struct Home {
    server: ServerId,
    handle: u32,
    epoch: u64,
    zone: String,
}

/// A frozen state, checked.
#[derive(Debug, Clone)]
struct State {
    bytes: Bytes,
    format: u32,
    digest: Vec<u8>,
}

impl Journey {
    pub(super) fn new(environment: &EnvironmentId, peers: BTreeMap<ServerId, Peer>) -> Self {
        let session = Uuid::new_v4();
        // Somebody new each time: a manager that died in the middle of a test may have left an earlier probe in a seat.
        let name = format!("probe:{environment}:{}", &session.simple().to_string()[..8]);
        let identity = v1::SessionIdentity {
            session_id: session.as_bytes().to_vec(),
            player: name.clone(),
            character: name,
            party: String::new(),
            client_version: "0.0.0".to_owned(),
            pin: Some(v1::Pin {
                environment_id: environment.to_string(),
                since_ms: SystemClock.now().wall.0,
                cause: v1::Cause::Login.into(),
                until_ms: 0,
            }),
        };
        Self { peers, identity, home: None }
    }

    pub(super) fn into_peers(self) -> impl Iterator<Item = Peer> {
        self.peers.into_values()
    }

    /// Runs the checks from login to leave; one outcome each, up to the first that failed. Whatever happens, the probe is
    /// asked to leave.
    pub(super) async fn run(&mut self, outcomes: &mut Vec<Outcome>) {
        match self.login().await {
            Ok(()) => outcomes.push(Outcome::Passed),
            Err(why) => return outcomes.push(Outcome::Failed(why)),
        }
        let moved = self.change_zone().await;
        let failed = matches!(moved, Outcome::Failed(_));
        outcomes.push(moved);
        if !failed {
            let carried = self.carry_state().await.unwrap_or_else(Outcome::Failed);
            let failed = matches!(carried, Outcome::Failed(_));
            outcomes.push(carried);
            if !failed {
                outcomes.push(match self.leave().await {
                    Ok(()) => Outcome::Passed,
                    Err(why) => Outcome::Failed(why),
                });
                return;
            }
        }
        if let Err(why) = self.leave().await {
            tracing::debug!(why, "probe could not leave after a failed check");
        }
    }

    async fn login(&mut self) -> Result<(), String> {
        let mut server = self.first(|_| true).ok_or("no server serves a shared zone")?;
        let (mut epoch, mut place) = (1, None);
        let mut last = String::new();
        for _ in 0..LOGIN_ATTEMPTS {
            match self.attach(&server, epoch, place.clone()).await? {
                Ok(home) => {
                    self.home = Some(home);
                    return Ok(());
                }
                Err(refused) => {
                    last = describe(refused.reason(), &refused.message);
                    match refused.reason() {
                        v1::RefusalReason::StaleEpoch => epoch = refused.highest_epoch + 1,
                        v1::RefusalReason::WrongZone => {
                            let saved = refused.place.unwrap_or_default();
                            match self.first(|peer| serves(peer, &saved.zone)) {
                                Some(other) => (server, place) = (other, Some(saved)),
                                // Saved where this environment has no zone: begin in one that it has.
                                None => place = self.zone_of(&server).map(shared),
                            }
                        }
                        _ => break,
                    }
                }
            }
        }
        Err(format!("{server} refused the probe: {last}"))
    }

    async fn attach(
        &mut self,
        server: &ServerId,
        epoch: u64,
        place: Option<v1::Place>,
    ) -> Result<Result<Home, v1::AttachRefused>, String> {
        let identity = Some(self.identity.clone());
        let peer = self.peer(server)?;
        let handle = peer.handle();
        let cause = v1::Cause::Login.into();
        let attach = to::Message::Attach(v1::Attach { handle, identity, epoch, place, cause, ..v1::Attach::default() });
        let answer = peer
            .ask(handle, attach, "a login", |message| match message {
                from::Message::Attached(attached) if attached.handle == handle => Some(Ok(attached)),
                from::Message::AttachRefused(refused) if refused.handle == handle => Some(Err(refused)),
                _ => None,
            })
            .await?;
        Ok(answer.map(|attached| Home {
            server: server.clone(),
            handle,
            epoch,
            zone: attached.place.unwrap_or_default().zone,
        }))
    }

    /// A hand-over as a gateway does it, to another zone's server if there is one, else to another server of the zone.
    async fn change_zone(&mut self) -> Outcome {
        let Some(home) = self.home.clone() else { return Outcome::Failed("the probe is nowhere".to_owned()) };
        let elsewhere = |peer: &Peer| peer.server.id != home.server;
        let other_zone = self.first(|peer| elsewhere(peer) && !serves(peer, &home.zone));
        let Some(target) = other_zone.or_else(|| self.first(elsewhere)) else {
            return Outcome::Skipped("the environment has one server: there is nowhere to go".to_owned());
        };
        match self.hand_over(&home, &target).await {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(why),
        }
    }

    async fn hand_over(&mut self, home: &Home, target: &ServerId) -> Result<(), String> {
        let state = self.freeze(home).await?;
        let epoch = home.epoch + 1;
        let handle = match self.prepare(target, epoch, &state).await {
            Ok(handle) => handle,
            Err(why) => {
                self.thaw(home).await?;
                return Err(why);
            }
        };
        let peer = self.peer(target)?;
        let activate = to::Message::Activate(v1::Activate { handle, epoch });
        let activated = peer
            .ask(handle, activate, "an activation", |message| match message {
                from::Message::Activated(activated) if activated.handle == handle => Some(Ok(activated)),
                from::Message::AttachRefused(refused) if refused.handle == handle => {
                    Some(Err(describe(refused.reason(), &refused.message)))
                }
                _ => None,
            })
            .await?
            .map_err(|why| format!("{target} refused the activation: {why}"))?;
        let zone = activated.place.unwrap_or_default().zone;
        self.home = Some(Home { server: target.clone(), handle, epoch: activated.epoch, zone });
        let old = self.peer(&home.server)?;
        let release = to::Message::Release(v1::Release { handle: home.handle, epoch: home.epoch });
        old.ask(home.handle, release, "a release", |message| match message {
            from::Message::Released(released) if released.handle == home.handle => Some(()),
            _ => None,
        })
        .await?;
        if activated.epoch == epoch {
            Ok(())
        } else {
            Err(format!("{target} activated the probe at epoch {}, not {epoch}", activated.epoch))
        }
    }

    /// The probe's state is frozen, loaded by another server, given up there, and the probe plays on where it was.
    async fn carry_state(&mut self) -> Result<Outcome, String> {
        let home = self.home.clone().ok_or("the probe is nowhere")?;
        let state = self.freeze(&home).await?;
        let Some(target) = self.first(|peer| peer.server.id != home.server) else {
            self.thaw(&home).await?;
            return Ok(Outcome::Skipped("the environment has one server: frozen and thawed, not loaded".to_owned()));
        };
        let loaded = match self.prepare(&target, home.epoch + 1, &state).await {
            Ok(handle) => {
                let peer = self.peer(&target)?;
                let abort = to::Message::Abort(v1::Abort { handle });
                peer.ask(handle, abort, "an abort", |message| match message {
                    from::Message::Aborted(aborted) if aborted.handle == handle => Some(()),
                    _ => None,
                })
                .await
            }
            Err(why) => Err(why),
        };
        self.thaw(&home).await?;
        loaded.map(|()| Outcome::Passed)
    }

    async fn freeze(&mut self, home: &Home) -> Result<State, String> {
        let handle = home.handle;
        let peer = self.peer(&home.server)?;
        let freeze = to::Message::Freeze(v1::Freeze { handle, epoch: home.epoch });
        let frozen = peer
            .ask(handle, freeze, "a freeze", |message| match message {
                from::Message::Frozen(frozen) if frozen.handle == handle => Some(Ok(frozen)),
                from::Message::FreezeRefused(refused) if refused.handle == handle => {
                    Some(Err(describe(refused.reason(), &refused.message)))
                }
                _ => None,
            })
            .await?
            .map_err(|why| format!("{} refused the freeze: {why}", home.server))?;
        if blake3::hash(&frozen.state).as_bytes()[..] != frozen.digest[..] {
            self.thaw(home).await?;
            return Err(format!("{} froze a state that does not match its digest", home.server));
        }
        Ok(State { bytes: frozen.state, format: frozen.format, digest: frozen.digest })
    }

    /// Has the state loaded. The handle under which it is held.
    async fn prepare(&mut self, target: &ServerId, epoch: u64, state: &State) -> Result<u32, String> {
        let place = self.zone_of(target).map(shared);
        let identity = Some(self.identity.clone());
        let peer = self.peer(target)?;
        let handle = peer.handle();
        let prepare = to::Message::Prepare(v1::Prepare {
            handle,
            identity,
            epoch,
            state: state.bytes.clone(),
            format: state.format,
            digest: state.digest.clone(),
            place,
            cause: v1::Cause::Zone.into(),
            ..v1::Prepare::default()
        });
        peer.ask(handle, prepare, "a preparation", |message| match message {
            from::Message::Prepared(prepared) if prepared.handle == handle => Some(Ok(handle)),
            from::Message::PrepareRefused(refused) if refused.handle == handle => {
                Some(Err(describe(refused.reason(), &refused.message)))
            }
            _ => None,
        })
        .await?
        .map_err(|why| format!("{target} refused the probe's state: {why}"))
    }

    async fn thaw(&mut self, home: &Home) -> Result<(), String> {
        let handle = home.handle;
        let peer = self.peer(&home.server)?;
        let thaw = to::Message::Thaw(v1::Thaw { handle, epoch: home.epoch });
        peer.ask(handle, thaw, "a thaw", |message| match message {
            from::Message::Thawed(thawed) if thawed.handle == handle => Some(()),
            _ => None,
        })
        .await
    }

    async fn leave(&mut self) -> Result<(), String> {
        let Some(home) = self.home.take() else { return Ok(()) };
        let handle = home.handle;
        let peer = self.peer(&home.server)?;
        let leave = to::Message::Leave(v1::Leave { handle, epoch: home.epoch, reason: "logout".to_owned() });
        peer.ask(handle, leave, "a logout", |message| match message {
            from::Message::Left(left) if left.handle == handle => Some(()),
            _ => None,
        })
        .await
    }

    /// The first server with a shared zone that `wanted` likes.
    fn first(&self, wanted: impl Fn(&Peer) -> bool) -> Option<ServerId> {
        let mut peers = self.peers.values().filter(|peer| !peer.server.zones.is_empty());
        peers.find(|peer| wanted(peer)).map(|peer| peer.server.id.clone())
    }

    fn zone_of(&self, server: &ServerId) -> Option<String> {
        Some(self.peers.get(server)?.server.zones.first()?.to_string())
    }

    fn peer(&mut self, server: &ServerId) -> Result<&mut Peer, String> {
        self.peers.get_mut(server).ok_or_else(|| format!("there is no link to {server}"))
    }
}

fn serves(peer: &Peer, zone: &str) -> bool {
    peer.server.zones.iter().any(|served| served.as_str() == zone)
}

fn shared(zone: String) -> v1::Place {
    v1::Place { zone, instance: String::new() }
}

fn describe(reason: v1::RefusalReason, message: &str) -> String {
    let word = reason.as_str_name().trim_start_matches("REFUSAL_REASON_").to_lowercase();
    if message.is_empty() { word } else { format!("{word}: {message}") }
}
