//! Real engines for tests, benches and faults: a Redis server and a Kafka broker (KRaft) of one's own, on free ports of 127.0.0.1.
//!
//! The programs are those of `cargo xtask tools redis kafka`. A test that needs one begins with
//! `if !available(Engine::Redis, "name_of_the_test") { return; }`, so that it is skipped by name where the engine is missing.
//!
//! - An engine keeps its ports, folder and, unless told otherwise, its data over kills and restarts.
//! - No server outlives the process that started it, however that process ends; its folder goes with it.
//! - What changes an engine's life needs it mutable. The shared ones are not, so no test kills another's server.
//! - Everything blocks: call it from a thread that may. Who speaks to the engines, and what is true of the answers, is left to
//!   the tests.

mod install;
mod kafka;
mod redis;
mod server;
mod supervised;

use std::net::{IpAddr, Ipv4Addr};

pub use install::{Engine, available};
pub use kafka::{Kafka, KafkaCluster, KafkaOptions, Login};
pub use redis::{Redis, RedisCluster, RedisOptions};

/// Where every engine listens.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
