//! A node's `server.properties`: few partitions of Kafka's own, and deaths that are noticed within seconds.

use super::KafkaOptions;
use std::fmt::Write as _;

pub(super) struct Node<'a> {
    /// From 1.
    pub(super) id: usize,
    /// The controllers' ports, by id.
    pub(super) voters: &'a [u16],
    pub(super) clients: u16,
    pub(super) data: &'a str,
}

const SAME_FOR_ALL: &str = "\
process.roles=broker,controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=200
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=2000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=400
";

pub(super) fn text(node: &Node<'_>, options: &KafkaOptions) -> String {
    let mut text = SAME_FOR_ALL.to_owned();
    let mut set = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={}", value.replace('\\', "\\\\"));
    };
    let own = node.voters[node.id - 1];
    let clients = format!("CLIENT://127.0.0.1:{}", node.clients);
    set("node.id", &node.id.to_string());
    set("listeners", &format!("{clients},CONTROLLER://127.0.0.1:{own}"));
    set("advertised.listeners", &clients);
    let voters = node.voters.iter().zip(1..).map(|(port, id)| format!("{id}@127.0.0.1:{port}"));
    set("controller.quorum.voters", &voters.collect::<Vec<_>>().join(","));
    set("log.dirs", node.data);

    let replicas = node.voters.len().min(3);
    let in_sync = replicas.div_ceil(2);
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.replication.factor"), &replicas.to_string());
        set(&format!("{topic}.min.isr"), &in_sync.to_string());
    }
    set("offsets.topic.replication.factor", &replicas.to_string());
    set("default.replication.factor", &replicas.to_string());
    set("min.insync.replicas", &in_sync.to_string());

    let protocol = if options.login.is_some() { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
    set("listener.security.protocol.map", &format!("CLIENT:{protocol},CONTROLLER:PLAINTEXT"));
    if let Some(login) = &options.login {
        let (user, password) = (&login.user, &login.password);
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        set("listener.name.client.sasl.enabled.mechanisms", "PLAIN");
        // The brokers show each other the same.
        set("sasl.mechanism.inter.broker.protocol", "PLAIN");
        set(
            "listener.name.client.plain.sasl.jaas.config",
            &format!(r#"{module} required username="{user}" password="{password}" user_{user}="{password}";"#),
        );
    }
    for (key, value) in &options.settings {
        set(key, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Login;

    fn check(voters: &[u16], options: &KafkaOptions, expected: &[&str]) {
        let text = text(&Node { id: 1, voters, clients: 9, data: "/d" }, options);
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn replicas_fit_the_number_of_brokers() {
        let options = KafkaOptions::default();
        check(&[7], &options, &["offsets.topic.replication.factor=1", "transaction.state.log.min.isr=1"]);
        let three = ["offsets.topic.replication.factor=3", "transaction.state.log.min.isr=2", "min.insync.replicas=2"];
        check(&[7, 8, 5], &options, &three);
        check(&[7, 8, 5], &options, &["controller.quorum.voters=1@127.0.0.1:7,2@127.0.0.1:8,3@127.0.0.1:5"]);
    }

    #[test]
    fn a_login_is_asked_of_clients_alone() {
        let login = Login { user: "u".to_owned(), password: "p".to_owned() };
        let options = KafkaOptions { login: Some(login), ..KafkaOptions::default() };
        check(&[7], &options, &["listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"]);
    }
}
