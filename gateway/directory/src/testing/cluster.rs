//! A cluster of masters without replicas.

use super::{Options, RedisServer, wait_until};

/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// Some servers that share the slots evenly.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes; each can be hurt by itself.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts `count` masters (at least three) and waits until they agree.
    ///
    /// # Panics
    /// That takes too long.
    #[must_use]
    pub fn start(count: usize) -> Self {
        let nodes: Vec<RedisServer> =
            (0..count).map(|_| RedisServer::start(Options { cluster: true, ..Options::default() })).collect();
        for (i, node) in nodes.iter().enumerate() {
            let (from, to) = (i * SLOTS / count, (i + 1) * SLOTS / count - 1);
            let run = |words: &[&str]| node.command(words).expect("a command to a new node");
            run(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            run(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
        }
        let first = &nodes[0];
        for node in &nodes[1..] {
            let (port, bus) = (node.port().to_string(), node.bus_port().to_string());
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).expect("the nodes meet");
        }
        let cluster = Self { nodes };
        cluster.wait();
        cluster
    }

    /// Waits until every node says that the cluster is whole.
    ///
    /// # Panics
    /// That takes too long.
    pub fn wait(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        wait_until("the cluster is whole", || {
            self.nodes.iter().all(|node| {
                node.command(&["CLUSTER", "INFO"])
                    .is_ok_and(|info| info.contains("cluster_state:ok") && info.contains(&known))
            })
        });
    }

    /// `redis-cluster://` with all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }
}
