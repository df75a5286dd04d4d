//! The platform as `attune up` starts it, with a second edge beside it.

use crate::connection::Connection;
use attune_engines::{Kafka, KafkaOptions, Redis, RedisOptions};
use attune_runtime::ReservedPort;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Kernel clock ticks in a second of `/proc/PID/stat`: the value of every Linux build there is.
const TICKS: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Engines(Option<(Kafka, Redis)>);

impl Engines {
    pub(crate) fn start() -> Self {
        let kafka = Kafka::start(&KafkaOptions::default()).unwrap();
        let redis = Redis::start(&RedisOptions { append_only: true, ..Default::default() }).unwrap();
        Self(Some((kafka, redis)))
    }

    pub(crate) fn none() -> Self {
        Self(None)
    }
}

pub(crate) struct Platform {
    // Before the engines, so that it ends before they do.
    children: Vec<Child>,
    engines: Engines,
    pub(crate) edge: String,
    /// The edge that is told nothing.
    pub(crate) second: String,
    admin: String,
    _port: ReservedPort,
    _dir: tempfile::TempDir,
}

/// CPU seconds by who spent them.
#[derive(Debug, Clone)]
pub(crate) struct Cpu(Vec<(&'static str, f64)>);

impl Cpu {
    /// Cores that each kept busy since.
    pub(crate) fn since(&self, before: &Self, time: Duration) -> Vec<(&'static str, f64)> {
        let both = self.0.iter().zip(&before.0);
        both.map(|((who, now), (_, then))| (*who, (now - then) / time.as_secs_f64())).collect()
    }
}

impl Platform {
    pub(crate) fn start(engines: Engines, config: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_attune"));
        let mut command = Command::new(&program);
        command.args(["up", "--json", "--listen", "127.0.0.1:0", "--state"]).arg(&state);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        if let Some((kafka, redis)) = &engines.0 {
            command.args(["--log", &format!("kafka://{}", kafka.bootstrap()), "--store", &redis.url()]);
        }
        let mut up = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(up.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).expect("the platform is ready");
        let host = |value: &Value| value.as_str().unwrap().trim_start_matches("http://").to_owned();
        let port = ReservedPort::reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let live = std::fs::read_to_string(state.join("bundles/live")).unwrap();
        let bundle = state.join("bundles").join(live.trim());
        let mut edge = Command::new(&program);
        edge.args(["service", "edge"]);
        for (key, value) in [
            ("listen", port.address().to_string()),
            ("process.admin", "127.0.0.1:0".to_owned()),
            ("process.grpc.listen", "127.0.0.1:0".to_owned()),
            ("process.instance", "edge-second".to_owned()),
            ("own.origin", ready["origin_grpc"].as_str().unwrap().to_owned()),
            ("own.bundle", bundle.display().to_string()),
            ("own.subject_key", state.join("keys/subject.key").display().to_string()),
        ] {
            edge.args(["--set", &format!("{key}={value}")]);
        }
        let second = edge.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let address = port.address();
        let limit = Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(address).is_err() {
            assert!(Instant::now() < limit, "the second edge does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            children: vec![up, second],
            engines,
            edge: host(&ready["edge"]),
            second: address.to_string(),
            admin: host(&ready["admin"]["edge"]),
            _port: port,
            _dir: dir,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.engines.0.is_some() { "kafka+redis" } else { "embedded" }
    }

    pub(crate) fn cpu(&self) -> Cpu {
        let mut all = vec![
            ("platform", cpu_seconds(self.children[0].id())),
            ("second edge", cpu_seconds(self.children[1].id())),
            ("load", cpu_seconds(std::process::id())),
        ];
        if let Some((kafka, redis)) = &self.engines.0 {
            all.push(("kafka", cpu_seconds(kafka.process_id().unwrap())));
            all.push(("redis", cpu_seconds(redis.process_id().unwrap())));
        }
        Cpu(all)
    }

    /// How long it takes until no record waits.
    pub(crate) async fn caught_up(&self) -> Duration {
        let begun = Instant::now();
        let mut admin = Connection::open(&self.admin).await;
        loop {
            let text = String::from_utf8(admin.get("/metrics").await.body).unwrap();
            let lag = text.lines().find(|line| line.starts_with("embedder_lag")).expect("the embedder tells its lag");
            if lag.ends_with(" 0") {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "{lag}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _asked = Command::new("kill").arg(child.id().to_string()).status();
            let _ended = child.wait();
        }
    }
}

pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / TICKS
}
