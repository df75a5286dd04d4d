//! A Redis cluster of masters that share the slots evenly.

use super::{Redis, RedisOptions};
use crate::LOOPBACK;
use anyhow::ensure;
use attune_runtime::ReservedPort;

const SLOTS: usize = 16384;
/// After which a silent node is suspected; the default of 15 s is long for a test.
const NODE_TIMEOUT_MS: u32 = 1000;

#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// The nodes' own ports for each other, which stay reserved.
    _buses: Vec<ReservedPort>,
}

impl RedisCluster {
    /// Returns when every node says that the cluster is well.
    pub fn start(masters: usize) -> anyhow::Result<Self> {
        ensure!(masters >= 3, "a Redis cluster has three masters or more");
        let buses = (0..masters).map(|_| ReservedPort::reserve(LOOPBACK)).collect::<anyhow::Result<Vec<_>>>()?;
        let nodes = buses.iter().map(|bus| Redis::start(&options(bus))).collect::<anyhow::Result<Vec<_>>>()?;
        for (place, node) in nodes.iter().enumerate() {
            let (first, last) = (place * SLOTS / masters, (place + 1) * SLOTS / masters - 1);
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()])?;
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(place + 1).to_string()])?;
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let (port, bus) = (node.port.address().port().to_string(), bus.address().port().to_string());
            nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])?;
        }
        let cluster = Self { nodes, _buses: buses };
        cluster.wait_until_well()?;
        Ok(cluster)
    }

    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// To kill, pause and restart. A node that is restarted empty has forgotten the cluster.
    pub fn nodes_mut(&mut self) -> &mut [Redis] {
        &mut self.nodes
    }

    /// Every node knows all others, and all slots are served.
    pub fn wait_until_well(&self) -> anyhow::Result<()> {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        let expected = ["cluster_state:ok", &known, "cluster_slots_ok:16384"];
        let is_well = |node: &Redis| {
            let said = node.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
            expected.iter().all(|line| said.lines().any(|said| said.trim_end() == *line))
        };
        // All at the same time: what one says may be from before another fell.
        self.nodes[0].server.wait_until(|| self.nodes.iter().all(is_well))
    }
}

fn options(bus: &ReservedPort) -> RedisOptions {
    let settings = [
        ("cluster-enabled", "yes".to_owned()),
        ("cluster-port", bus.address().port().to_string()),
        ("cluster-config-file", "nodes.conf".to_owned()),
        ("cluster-node-timeout", NODE_TIMEOUT_MS.to_string()),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value)).to_vec();
    RedisOptions { append_only: true, settings, ..RedisOptions::default() }
}
