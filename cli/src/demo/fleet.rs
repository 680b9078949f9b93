//! The demo as an operator: starts the processes and drives them by the same API as the command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use simulated_players::Control;
use tidegate_proto::v1;
use world_server_stub::ledger::{self, HomesAudit};

use super::picture::Picture;
use super::processes::Process;
use super::{NEW_BUILD, OLD_BUILD, REALM, failed_check};
use crate::exit::{Code, Failure};
use crate::operator::{Context, Options};
use crate::output::Format;

/// The manager, the gateway and, through the manager, the world servers.
pub(super) struct Fleet {
    context: Context,
    database: PathBuf,
    /// The manager's folder.
    pub(super) data_dir: PathBuf,
    /// Where players connect.
    pub(super) gateway: SocketAddr,
    // In the order in which they are stopped.
    _gateway_process: Process,
    _manager_process: Process,
}

/// How long an environment may take to start and to be tested.
const STAGE_DEADLINE: Duration = Duration::from_secs(60);
/// How long the whole rollout may take: its drain's deadline and this.
const ROLLOUT_DEADLINE: Duration = Duration::from_secs(120);

impl Fleet {
    /// Starts everything and brings the old build into play.
    pub(super) async fn start(folder: &Path, players: u32, picture: &Picture) -> Result<Self, Failure> {
        picture.step("a fleet-manager starts");
        let data_dir = folder.join("manager");
        std::fs::create_dir_all(&data_dir)?;
        let data = data_dir.to_string_lossy().into_owned();
        let anywhere = "127.0.0.1:0";
        let mut manager_process = Process::start(
            "fleet-manager",
            folder,
            &["--data-dir", &data, "--listen", anywhere, "--metrics-listen", anywhere],
        )?;
        let manager = manager_process.address(&data_dir.join("manager.addr")).await?;

        picture.step("a gateway starts");
        let config = folder.join("gateway.toml");
        let quoted = |path: PathBuf| toml::Value::String(path.to_string_lossy().into_owned()).to_string();
        std::fs::write(
            &config,
            format!(
                "listen = \"{anywhere}\"\nmetrics_listen = \"{anywhere}\"\nmanager = \"http://{manager}\"\n\
                 data_dir = {}\npki_dir = {}\nticket_keys = {}\n",
                quoted(folder.join("gateway")),
                quoted(data_dir.join("pki")),
                quoted(data_dir.join("tickets/keys")),
            ),
        )?;
        let mut gateway_process = Process::start("gateway", folder, &["--config", &config.to_string_lossy()])?;
        let gateway = gateway_process.address(&folder.join("gateway/gateway.addr")).await?;
        let gateway =
            gateway.parse().map_err(|_| Failure::new(Code::Failure, format!("\"{gateway}\" is no address")))?;

        let options = Options {
            manager: format!("http://{manager}"),
            output: Format::Json,
            actor: Some("demo".to_owned()),
            request_id: None,
            timeout: Some(STAGE_DEADLINE),
        };
        let mut fleet = Self {
            context: Context::connect(&options).await?,
            database: PathBuf::new(),
            data_dir,
            gateway,
            _gateway_process: gateway_process,
            _manager_process: manager_process,
        };
        fleet.first_environment(players, picture).await?;
        Ok(fleet)
    }

    /// Realm, build, blue; staged, verified and taking players.
    async fn first_environment(&mut self, players: u32, picture: &Picture) -> Result<(), Failure> {
        let context = &self.context;
        let realm = v1::Realm {
            id: REALM.to_owned(),
            display_name: "Demo".to_owned(),
            entry_zone: "harbor".to_owned(),
            boundaries: Some(v1::BoundaryPolicy { zone: true, instance: true, respawn: true }),
            ..Default::default()
        };
        let request = v1::CreateRealmRequest { request_id: context.request_id(), realm: Some(realm) };
        let realm = context.call(context.realms().create_realm(request)).await?;
        self.database = PathBuf::from(realm.database);
        self.register(OLD_BUILD, &[1], 1).await?;

        picture.step(&format!("blue {OLD_BUILD} is staged"));
        let request = v1::CreateEnvironmentRequest {
            request_id: context.request_id(),
            realm: REALM.to_owned(),
            build: OLD_BUILD.to_owned(),
            fleets: fleets(players),
            label: v1::Label::Blue as i32,
        };
        let blue = context.call(context.environments().create_environment(request)).await?.id;
        let request =
            v1::StageEnvironmentRequest { request_id: context.request_id(), id: blue.clone(), if_generation: 0 };
        context.call(context.environments().stage_environment(request)).await?;
        self.reaches(&blue, v1::Phase::Staged).await?;
        picture.step(&format!("blue {OLD_BUILD} is verified"));
        let request =
            v1::VerifyEnvironmentRequest { request_id: context.request_id(), id: blue.clone(), if_generation: 0 };
        context.call(context.environments().verify_environment(request)).await?;
        self.reaches(&blue, v1::Phase::Ready).await?;
        let request = v1::FlipRequest {
            request_id: context.request_id(),
            realm: REALM.to_owned(),
            to: blue,
            reason: "the first environment".to_owned(),
            ..Default::default()
        };
        let flip = context.call(context.routes().flip(request)).await?;
        if flip.confirmed {
            return Ok(());
        }
        Err(Failure::new(Code::Failure, format!("the first flip was not confirmed by {:?}", flip.unconfirmed_gateways)))
    }

    async fn register(&self, version: &str, reads: &[u32], writes: u32) -> Result<(), Failure> {
        let program = std::env::current_exe()?.to_string_lossy().into_owned();
        let assets = self.data_dir.join(format!("../assets-{version}"));
        std::fs::create_dir_all(&assets)?;
        std::fs::write(assets.join("world.txt"), format!("the world of build {version}\n"))?;
        let build = v1::Build {
            version: version.to_owned(),
            command: vec![program, "world-server-stub".to_owned(), "--build".to_owned(), version.to_owned()],
            assets_path: std::path::absolute(assets)?.to_string_lossy().into_owned(),
            state_formats_read: reads.to_vec(),
            state_format_write: writes,
            ..Default::default()
        };
        let request = v1::RegisterBuildRequest { request_id: self.context.request_id(), build: Some(build) };
        self.context.call(self.context.builds().register_build(request)).await?;
        Ok(())
    }

    async fn reaches(&self, id: &str, phase: v1::Phase) -> Result<(), Failure> {
        let wait = async {
            loop {
                let request = v1::GetEnvironmentRequest { id: id.to_owned() };
                let now = self.context.call(self.context.environments().get_environment(request)).await?;
                if now.phase == phase as i32 {
                    return Ok(());
                }
                if now.phase == v1::Phase::Failed as i32 {
                    return Err(Failure::new(Code::Failure, format!("{id} failed: {}", now.reason)));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let late = |_| Err(Failure::new(Code::Failure, format!("{id} is not {} in time", phase.as_str_name())));
        tokio::time::timeout(STAGE_DEADLINE, wait).await.unwrap_or_else(late)
    }

    /// Registers the new build and follows its rollout to the end.
    pub(super) async fn rollout(
        &self,
        deadline: Duration,
        control: &Control,
        picture: &Picture,
    ) -> Result<v1::Rollout, Failure> {
        self.register(NEW_BUILD, &[1, 2], 2).await?;
        let context = &self.context;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let spec = v1::RolloutSpec {
            realm: REALM.to_owned(),
            build: NEW_BUILD.to_owned(),
            drain: Some(v1::DrainPolicy {
                deadline_ms: Some(ms(deadline)),
                at_deadline: v1::AtDeadline::Move as i32,
                notices_ms: vec![ms(deadline / 2), ms(deadline / 5)],
                notice_text: "This world is being updated. You will be moved in {remaining}; nothing is lost."
                    .to_owned(),
                ..Default::default()
            }),
            stable_ms: 2_000,
            reason: "the demo".to_owned(),
            ..Default::default()
        };
        let request = v1::StartRolloutRequest { request_id: context.request_id(), spec: Some(spec) };
        let started = context.call(context.rollouts().start_rollout(request)).await?;
        let request = v1::WatchRolloutRequest { id: started.id.clone() };
        let mut changes = context.call(context.rollouts().watch_rollout(request)).await?;
        let mut players = control.live();
        let mut last = started;
        let follow = async {
            loop {
                tokio::select! {
                    change = changes.message() => match change? {
                        Some(rollout) => {
                            picture.rollout(&rollout);
                            last = rollout;
                        }
                        None => return Ok::<_, Failure>(last),
                    },
                    Ok(()) = players.changed() => {
                        let live = players.borrow_and_update().clone();
                        picture.players(&live);
                        if last.flip_confirmed_at_ms > 0
                            && let Ok(drain) = self.drain(&last.blue).await {
                                picture.drain(&drain);
                            }
                    }
                }
            }
        };
        let rollout = tokio::time::timeout(deadline + ROLLOUT_DEADLINE, follow)
            .await
            .map_err(|_| Failure::new(Code::Failure, "the rollout did not end in time"))??;
        match crate::operator::rollout::verdict(&rollout) {
            Ok(()) => Ok(rollout),
            Err(failure) => Err(match failed_check(&rollout) {
                Some(check) => failure.hint(check),
                None => failure,
            }),
        }
    }

    pub(super) async fn drain(&self, environment: &str) -> Result<v1::Drain, Failure> {
        let request = v1::GetDrainRequest { environment_id: environment.to_owned() };
        self.context.call(self.context.drains().get_drain(request)).await
    }

    pub(super) async fn environments(&self) -> Result<Vec<v1::Environment>, Failure> {
        let request = v1::ListEnvironmentsRequest { page: None, realm: REALM.to_owned(), include_retired: true };
        Ok(self.context.call(self.context.environments().list_environments(request)).await?.environments)
    }

    pub(super) async fn snapshot(&self, id: &str) -> Result<v1::Snapshot, Failure> {
        let request = v1::GetSnapshotRequest { id: id.to_owned() };
        self.context.call(self.context.snapshots().get_snapshot(request)).await
    }

    pub(super) async fn gateways(&self) -> Result<Vec<v1::Gateway>, Failure> {
        Ok(self.context.call(self.context.routes().list_gateways(v1::ListGatewaysRequest {})).await?.gateways)
    }

    /// What the world servers' save records say.
    pub(super) fn audit(&self) -> Result<HomesAudit, Failure> {
        ledger::audit(&self.database)
            .map_err(|error| Failure::new(Code::Failure, format!("{}: {error}", self.database.display())))
    }

    /// Ends all of it; world servers notice that the demo is gone by themselves.
    pub(super) async fn stop(self) {
        let stop = tokio::task::spawn_blocking(move || drop(self));
        let _ = stop.await;
    }
}

/// Two servers for the open world and one for instances, each with room for everybody: the demo shows an update, not a
/// crowd control.
fn fleets(players: u32) -> Vec<v1::Fleet> {
    let capacity = (players * 2).max(200);
    vec![
        v1::Fleet {
            name: "open".to_owned(),
            replicas: 2,
            zones: ["harbor", "meadow", "forest"].map(str::to_owned).to_vec(),
            capacity,
            ..Default::default()
        },
        v1::Fleet {
            name: "instances".to_owned(),
            replicas: 1,
            instance_kinds: ["dungeon", "raid"].map(str::to_owned).to_vec(),
            capacity,
            ..Default::default()
        },
    ]
}
