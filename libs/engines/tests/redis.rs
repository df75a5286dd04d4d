//! Redis starts, speaks, dies and comes back as it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_engines::{Engine, Redis, RedisCluster, RedisOptions, available};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn it_speaks() {
    if !available(Engine::Redis, "it_speaks") {
        return;
    }
    let redis = Redis::shared().unwrap();
    assert_eq!(ping(&mut TcpStream::connect(redis.address()).unwrap()), "+PONG\r\n");
    assert_eq!(redis.url(), format!("redis://{}", redis.address()));
    assert_eq!(Redis::shared().unwrap().address(), redis.address());
}

#[test]
fn a_kill_takes_what_was_not_written() {
    if !available(Engine::Redis, "a_kill_takes_what_was_not_written") {
        return;
    }
    for (append_only, kept) in [(true, "1"), (false, "")] {
        let mut redis = Redis::start(&RedisOptions { append_only, ..RedisOptions::default() }).unwrap();
        let address = redis.address();
        redis.ask(&["SET", "key", "1"]).unwrap();
        redis.kill().unwrap();
        assert_eq!(TcpStream::connect(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(redis.process_id(), None);
        redis.restart().unwrap();
        assert_eq!(redis.address(), address);
        assert_eq!(redis.ask(&["GET", "key"]).unwrap(), kept);
    }
}

#[test]
fn a_stop_keeps_and_a_lost_disk_does_not() {
    if !available(Engine::Redis, "a_stop_keeps_and_a_lost_disk_does_not") {
        return;
    }
    let mut redis = Redis::start(&RedisOptions { append_only: true, ..RedisOptions::default() }).unwrap();
    redis.ask(&["SET", "key", "1"]).unwrap();
    redis.stop_gracefully().unwrap();
    redis.restart().unwrap();
    assert_eq!(redis.ask(&["GET", "key"]).unwrap(), "1");
    redis.restart_empty().unwrap();
    assert_eq!(redis.ask(&["GET", "key"]).unwrap(), "");
}

#[test]
fn what_is_paused_answers_later() {
    if !available(Engine::Redis, "what_is_paused_answers_later") {
        return;
    }
    let mut redis = Redis::start(&RedisOptions::default()).unwrap();
    let mut client = TcpStream::connect(redis.address()).unwrap();
    redis.pause().unwrap();
    client.write_all(b"PING\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(client.read(&mut [0; 7]).unwrap_err().kind(), ErrorKind::WouldBlock);
    redis.resume().unwrap();
    client.set_read_timeout(None).unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
    redis.pause().unwrap();
    redis.kill().unwrap();
}

#[test]
fn options_are_obeyed() {
    if !available(Engine::Redis, "options_are_obeyed") {
        return;
    }
    let options = RedisOptions {
        max_memory: Some(4 << 20),
        password: Some("secret".to_owned()),
        settings: vec![("databases".to_owned(), "3".to_owned())],
        ..RedisOptions::default()
    };
    let redis = Redis::start(&options).unwrap();
    assert!(ping(&mut TcpStream::connect(redis.address()).unwrap()).starts_with("-NOAUTH"));
    assert_eq!(redis.url(), format!("redis://:secret@{}", redis.address()));
    assert_eq!(redis.ask(&["CONFIG", "GET", "databases"]).unwrap(), "databases\n3");
    let value = "x".repeat(64 << 10);
    let refusal = (0..200).find_map(|key| redis.ask(&["SET", &key.to_string(), &value]).err());
    let refusal = refusal.expect("12 MiB do not fit into 4").to_string();
    assert!(refusal.contains("OOM"), "{refusal}");
}

#[test]
fn what_cannot_start_says_why() {
    if !available(Engine::Redis, "what_cannot_start_says_why") {
        return;
    }
    let settings = vec![("no-such-setting".to_owned(), "1".to_owned())];
    let error = Redis::start(&RedisOptions { settings, ..RedisOptions::default() }).unwrap_err();
    assert!(format!("{error:#}").contains("no-such-setting"), "{error:#}");
}

#[test]
fn a_cluster_forms_and_heals() {
    if !available(Engine::Redis, "a_cluster_forms_and_heals") {
        return;
    }
    let mut cluster = RedisCluster::start(3).unwrap();
    let owners = |cluster: &RedisCluster| {
        let set = |node: &Redis| node.ask(&["SET", "key", "1"]).is_ok();
        cluster.nodes().iter().map(set).collect::<Vec<_>>()
    };
    let before = owners(&cluster);
    assert_eq!(before.iter().filter(|owns| **owns).count(), 1, "one node owns the key's slot");
    for node in cluster.nodes_mut() {
        node.kill().unwrap();
        node.restart().unwrap();
    }
    cluster.wait_until_well().unwrap();
    assert_eq!(owners(&cluster), before);
}

fn ping(server: &mut TcpStream) -> String {
    server.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 64];
    let length = server.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
