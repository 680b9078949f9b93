//! Looks at the realm all the time, as a stranger would, and writes down what it sees.

use std::collections::BTreeMap;
use std::time::Duration;

use simulated_players::Live;
use tidegate_events::event;
use tidegate_proto::v1;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::operators::channel;
use super::realm::{REALM, Realm, World, lock};

/// How often the manager is asked.
const MANAGER: Duration = Duration::from_millis(500);
/// How often the players are looked at.
const PLAYERS: Duration = Duration::from_millis(100);

/// Watches routing, phases and world servers until told to end.
pub(super) async fn manager(realm: &Realm, end: &CancellationToken) {
    let channel = channel(&realm.manager_address);
    let mut phases: BTreeMap<String, i32> = BTreeMap::new();
    while !end.is_cancelled() {
        // A manager that is down or stopped says nothing, and nothing is concluded from that.
        let _asked_in_vain = tokio::time::timeout(Duration::from_secs(3), look(realm, &channel, &mut phases)).await;
        tokio::time::sleep(MANAGER).await;
    }
}

async fn look(realm: &Realm, channel: &Channel, phases: &mut BTreeMap<String, i32>) -> Result<(), tonic::Status> {
    let mut routes = v1::routing_service_client::RoutingServiceClient::new(channel.clone());
    let table = routes.get_route_table(v1::GetRouteTableRequest { realm: REALM.to_owned() }).await?.into_inner();
    event!("accepting", realm = REALM, generation = table.generation, environment = table.accepting);
    let mut environments = v1::environment_service_client::EnvironmentServiceClient::new(channel.clone());
    let request = v1::ListEnvironmentsRequest {
        realm: REALM.to_owned(),
        include_retired: true,
        ..v1::ListEnvironmentsRequest::default()
    };
    let list = environments.list_environments(request).await?.into_inner().environments;
    for environment in &list {
        if phases.insert(environment.id.clone(), environment.phase) != Some(environment.phase) {
            let phase = environment.phase().as_str_name().trim_start_matches("PHASE_");
            event!("phase", environment = environment.id, phase = phase);
        }
    }
    let mut fleets = v1::fleet_service_client::FleetServiceClient::new(channel.clone());
    let mut worlds = Vec::new();
    for environment in list.iter().filter(|e| e.phase() != v1::Phase::Retired) {
        let request = v1::ListServersRequest { environment_id: environment.id.clone() };
        let servers = fleets.list_servers(request).await?.into_inner().servers.into_iter();
        let running = servers.filter(|server| server.pid != 0);
        worlds.extend(running.map(|s| World { server: s.id, pid: s.pid, players: s.players.into() }));
    }
    *lock(&realm.worlds) = worlds;
    Ok(())
}

/// Writes the players' live figures down until told to end.
pub(super) async fn players(live: Receiver<Live>, end: &CancellationToken) {
    while !end.is_cancelled() {
        {
            let live = live.borrow();
            event!(
                "live",
                population = live.population,
                connecting = live.connecting,
                holding = live.holding,
                reconnecting = live.reconnecting,
                answered = live.actions_answered,
                moved = live.moved
            );
        }
        tokio::time::sleep(PLAYERS).await;
    }
}
