//! A cluster of three masters without replicas.

use super::{RedisServer, RedisVersion};
use crate::process::free_port;
use crate::wait::{Deadline, until};
use anyhow::Result;

/// Three masters that share all slots.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, in the order of their slots.
    pub nodes: Vec<RedisServer>,
}

const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

impl RedisCluster {
    /// Starts the nodes and waits until each says that the cluster is complete.
    ///
    /// # Errors
    /// When a node doesn't start or they don't find each other in time.
    pub fn start(version: RedisVersion) -> Result<Self> {
        let mut nodes = Vec::new();
        let mut buses = Vec::new();
        for slots in SLOTS {
            let bus = free_port()?;
            // The default, the port plus 10000, may lie beyond the last port.
            let node = RedisServer::builder(version)
                .config("cluster-enabled yes")
                .config(&format!("cluster-port {bus}"))
                .config("cluster-node-timeout 2000")
                .start()?;
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1])?;
            nodes.push(node);
            buses.push(bus);
        }
        // Equal epochs would be settled by themselves, but only after a while.
        for (epoch, node) in nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()])?;
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.to_string());
            nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        let cluster = Self { nodes };
        cluster.wait_complete()?;
        Ok(cluster)
    }

    /// Returns the ports of the nodes.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(RedisServer::port).collect()
    }

    /// Waits until every node knows all three and serves all slots.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_complete(&self) -> Result<()> {
        until("the cluster", Deadline::START, || {
            for node in &self.nodes {
                let info = node.cli(&["CLUSTER", "INFO"])?;
                let has = |line: &str| info.lines().any(|found| found.trim() == line);
                if !has("cluster_state:ok") || !has("cluster_known_nodes:3") || !has("cluster_size:3") {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }
}
