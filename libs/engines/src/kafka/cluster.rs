//! A Kafka cluster whose nodes are brokers and controllers.

use super::{Kafka, KafkaOptions, Ports};

#[derive(Debug)]
pub struct KafkaCluster {
    nodes: Vec<Kafka>,
}

impl KafkaCluster {
    /// Returns when clients can connect to every node.
    pub fn start(nodes: usize) -> anyhow::Result<Self> {
        Self::start_with(nodes, &KafkaOptions::default())
    }

    pub fn start_with(nodes: usize, options: &KafkaOptions) -> anyhow::Result<Self> {
        let ports = (0..nodes).map(|_| Ports::reserve()).collect::<anyhow::Result<Vec<_>>>()?;
        let voters: Vec<_> = ports.iter().map(|ports| ports.controllers.address().port()).collect();
        let nodes = ports.into_iter().zip(1..).map(|(ports, id)| Kafka::prepare(id, &voters, ports, options));
        let nodes = nodes.collect::<anyhow::Result<Vec<_>>>()?;
        let formats = nodes.iter().map(Kafka::format).collect::<anyhow::Result<Vec<_>>>()?;
        for format in formats {
            format.finish()?;
        }
        let mut cluster = Self { nodes };
        cluster.restart()?;
        Ok(cluster)
    }

    /// Of all nodes, with commas between.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Kafka::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// Node `i` has the id `i + 1`.
    #[must_use]
    pub fn nodes(&self) -> &[Kafka] {
        &self.nodes
    }

    pub fn nodes_mut(&mut self) -> &mut [Kafka] {
        &mut self.nodes
    }

    /// All nodes at once.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Kafka::launch)?;
        self.nodes.iter().try_for_each(Kafka::wait_until_ready)
    }
}
