//! Kafka starts, speaks, dies and comes back as it is told to.

mod wire;

use attune_engines::{Engine, Kafka, KafkaCluster, KafkaOptions, Login, available};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use wire::Client;

#[test]
fn it_speaks() {
    if !available(Engine::Kafka, "it_speaks") {
        return;
    }
    let kafka = Kafka::shared().unwrap();
    assert_eq!(Client::connect(&kafka.bootstrap()).unwrap().brokers().unwrap(), 1);
    assert_eq!(Kafka::shared().unwrap().bootstrap(), kafka.bootstrap());
}

#[test]
fn a_kill_leaves_what_was_answered_for() {
    if !available(Engine::Kafka, "a_kill_leaves_what_was_answered_for") {
        return;
    }
    let mut kafka = Kafka::start(&KafkaOptions::default()).unwrap();
    let bootstrap = kafka.bootstrap();
    let mut client = Client::connect(&bootstrap).unwrap();
    assert_eq!(client.create_topic("kept", 1).unwrap(), wire::NONE);
    kafka.kill().unwrap();
    assert_eq!(TcpStream::connect(&bootstrap).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    kafka.restart().unwrap();
    assert_eq!(kafka.bootstrap(), bootstrap);
    assert_eq!(Client::connect(&bootstrap).unwrap().create_topic("kept", 1).unwrap(), wire::TOPIC_ALREADY_EXISTS);
    kafka.stop_gracefully().unwrap();
    assert!(kafka.process_id().is_none());
}

#[test]
fn a_login_is_asked_for() {
    if !available(Engine::Kafka, "a_login_is_asked_for") {
        return;
    }
    let login = Login { user: "visitor".to_owned(), password: "right".to_owned() };
    let kafka = Kafka::start(&KafkaOptions { login: Some(login), ..KafkaOptions::default() }).unwrap();
    let connect = || Client::connect(&kafka.bootstrap()).unwrap();
    assert_eq!(connect().log_in("visitor", "wrong").unwrap(), wire::SASL_AUTHENTICATION_FAILED);
    let mut client = connect();
    assert_eq!(client.log_in("visitor", "right").unwrap(), wire::NONE);
    assert_eq!(client.brokers().unwrap(), 1);
    connect().brokers().expect_err("without a login nothing is told");
}

#[test]
fn what_cannot_start_says_why() {
    if !available(Engine::Kafka, "what_cannot_start_says_why") {
        return;
    }
    let settings = vec![("log.retention.hours".to_owned(), "long".to_owned())];
    let error = Kafka::start(&KafkaOptions { settings, ..KafkaOptions::default() }).unwrap_err();
    assert!(format!("{error:#}").contains("log.retention.hours"), "{error:#}");
}

#[test]
fn a_cluster_forms_and_bears_a_death() {
    if !available(Engine::Kafka, "a_cluster_forms_and_bears_a_death") {
        return;
    }
    let mut cluster = KafkaCluster::start(3).unwrap();
    assert_eq!(cluster.bootstrap().split(',').count(), 3);
    let mut client = Client::connect(&cluster.nodes()[0].bootstrap()).unwrap();
    assert_eq!(client.create_topic("thrice", 3).unwrap(), wire::NONE);

    cluster.nodes_mut()[2].kill().unwrap();
    wait_until(|| client.brokers().unwrap() == 2);
    cluster.nodes_mut()[2].restart().unwrap();
    let mut returned = Client::connect(&cluster.nodes()[2].bootstrap()).unwrap();
    wait_until(|| returned.brokers().unwrap() == 3);

    cluster.nodes_mut()[1].pause().unwrap();
    wait_until(|| client.brokers().unwrap() == 2);
    cluster.nodes_mut()[1].resume().unwrap();
    wait_until(|| client.brokers().unwrap() == 3);

    cluster.nodes_mut().iter_mut().for_each(|node| node.kill().unwrap());
    cluster.restart().unwrap();
    let mut client = Client::connect(&cluster.nodes()[0].bootstrap()).unwrap();
    assert_eq!(client.create_topic("thrice", 3).unwrap(), wire::TOPIC_ALREADY_EXISTS);
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not come true");
        thread::sleep(Duration::from_millis(50));
    }
}
