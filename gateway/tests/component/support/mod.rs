//! What the tests are played with.

pub(crate) mod gateway;
pub(crate) mod manager;
pub(crate) mod player;
pub(crate) mod world;

use std::time::Duration;

/// Longest wait for something that should happen at once. Only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for `work`, but not for ever.
pub(crate) async fn patient<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// A whole scene: a manager, a gateway and two world servers of one environment, `w1` with the town, `w2` with the forest.
pub(crate) struct Scene {
    pub(crate) manager: manager::FakeManager,
    pub(crate) gateway: gateway::TestGateway,
    pub(crate) town: world::FakeWorld,
    pub(crate) forest: world::FakeWorld,
}

impl Scene {
    /// Plays until players can be placed.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut tidegate_gateway::Config)) -> Self {
        let manager = manager::FakeManager::start().await;
        let mut gateway = gateway::TestGateway::prepare();
        change(&mut gateway.config);
        gateway.config.manager = manager.url();
        let town = world::FakeWorld::start(&gateway, "w1", &["town"]).await;
        let forest = world::FakeWorld::start(&gateway, "w2", &["forest"]).await;
        gateway.start().await;
        let scene = Self { manager, gateway, town, forest };
        scene.manager.publish(scene.table(1));
        scene.manager.acked(1).await;
        eventually("both links", || (scene.town.links() == 1 && scene.forest.links() == 1).then_some(())).await;
        scene
    }

    /// The realm's table at `generation`.
    pub(crate) fn table(&self, generation: u64) -> tidegate_proto::v1::RouteTable {
        manager::table("eu-1", generation, "blue", &[("blue", &[&self.town, &self.forest])])
    }
}
