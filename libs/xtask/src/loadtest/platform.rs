//! The platform that a run loads: one that is there, or one of seven processes that the run starts, with its engines and,
//! where the question wants them, more edges.

use super::Question;
use crate::check::process::{self, Server};
use anyhow::{Context as _, bail};
use attune_engines::{Kafka, KafkaOptions, Redis, RedisOptions};
use clap::ValueEnum;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// Edges beside the platform's own, when one is to be drained.
const MORE_EDGES: [&str; 2] = ["west", "east"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engines {
    /// The stores of the state folder
    Embedded,
    /// Events in Kafka, visitors' states in Redis
    KafkaRedis,
}

impl Engines {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::KafkaRedis => "Kafka and Redis",
        }
    }
}

/// What a platform is filled from; the simulated shop without either.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Filled<'a> {
    pub(crate) data: Option<&'a Path>,
    /// A state folder to copy.
    pub(crate) state: Option<&'a Path>,
}

/// What to load and where its parts are. What the run started ends with it, in the order of the fields.
pub(crate) struct Platform {
    pub(crate) edges: Vec<String>,
    /// The ready line, of a platform that has one.
    pub(crate) ready: Option<Value>,
    more_edges: Vec<Server>,
    _own: Option<Server>,
    _redis: Option<Redis>,
    _kafka: Option<Kafka>,
    work: Option<tempfile::TempDir>,
}

impl Platform {
    pub(crate) fn there(edges: &str, ready: Option<&Path>) -> anyhow::Result<Self> {
        let ready = ready.map(|path| {
            let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| format!("read the ready line in {}", path.display()))
        });
        Ok(Self {
            edges: edges.split(',').map(str::to_owned).collect(),
            ready: ready.transpose()?,
            more_edges: Vec::new(),
            _own: None,
            _redis: None,
            _kafka: None,
            work: None,
        })
    }

    pub(crate) fn start(
        attune: &Path,
        engines: Engines,
        filled: Filled<'_>,
        question: Question,
    ) -> anyhow::Result<Self> {
        let work = tempfile::tempdir().context("create a folder for the platform")?;
        let mut more: Vec<OsString> = Vec::new();
        if let Some(state) = filled.state {
            let mut copy = Command::new("cp");
            process::said(copy.arg("-a").arg(state).arg(work.path().join("state")), "copy the state folder")?;
        }
        if let Some(data) = filled.data {
            more.extend(["--data".into(), data.into()]);
        }
        let (mut kafka, mut redis) = (None, None);
        if engines == Engines::KafkaRedis {
            let broker = Kafka::start(&KafkaOptions::default())?;
            let store = Redis::start(&RedisOptions { append_only: true, ..RedisOptions::default() })?;
            more.extend(["--log".into(), format!("kafka://{}", broker.bootstrap()).into()]);
            more.extend(["--store".into(), store.url().into()]);
            (kafka, redis) = (Some(broker), Some(store));
        }
        let more: Vec<&OsStr> = more.iter().map(OsString::as_os_str).collect();
        let (own, mut ready) = process::platform(attune, work.path(), &more)?;
        let ids = [
            ("kafka", kafka.as_ref().and_then(Kafka::process_id)),
            ("redis", redis.as_ref().and_then(Redis::process_id)),
        ];
        for (name, id) in ids.into_iter().filter_map(|(name, id)| Some((name, id?))) {
            ready["pids"][name] = id.into();
        }
        let edge = ready["edge"].as_str().context("find the edge in the ready line")?.to_owned();
        let mut platform = Self {
            edges: vec![edge],
            ready: Some(ready),
            more_edges: Vec::new(),
            _own: Some(own),
            _redis: redis,
            _kafka: kafka,
            work: Some(work),
        };
        if question == Question::RegionDrain {
            platform.add_edges(attune)?;
        }
        Ok(platform)
    }

    /// Before the platform's own edge, so that the first can be ended: nobody starts it again.
    fn add_edges(&mut self, attune: &Path) -> anyhow::Result<()> {
        let work = self.work.as_ref().context("find the platform's folder")?.path();
        let state = work.join("state");
        let live = std::fs::read_to_string(state.join("bundles/live")).context("find the live bundle")?;
        let origin = self.ready.as_ref().and_then(|ready| ready["origin_grpc"].as_str());
        let origin = origin.context("find the origin in the ready line")?;
        let addresses = process::free_addresses::<{ MORE_EDGES.len() }>()?;
        let mut edges = Vec::new();
        for (name, address) in MORE_EDGES.into_iter().zip(addresses) {
            let mut command = Command::new(attune);
            command.args(["service", "edge"]).stdout(Stdio::null());
            for (key, value) in [
                ("listen", address.clone()),
                ("pop", name.to_owned()),
                ("process.admin", "127.0.0.1:0".to_owned()),
                ("process.grpc.listen", "127.0.0.1:0".to_owned()),
                ("process.instance", format!("edge-{name}")),
                ("process.telemetry.decision_bus", origin.to_owned()),
                ("own.origin", origin.to_owned()),
                ("own.bundle", state.join("bundles").join(live.trim()).display().to_string()),
                ("own.subject_key", state.join("keys/subject.key").display().to_string()),
            ] {
                command.args(["--set", &format!("{key}={value}")]);
            }
            let mut edge = Server::start("an edge", &mut command, &work.join(format!("edge-{name}.log")))?;
            edge.wait_for(&address, PATIENCE)?;
            self.more_edges.push(edge);
            edges.push(format!("http://{address}"));
        }
        edges.append(&mut self.edges);
        self.edges = edges;
        Ok(())
    }

    /// Tells the first of the added edges to end, and waits for it.
    pub(crate) fn end_first_edge(&mut self) -> anyhow::Result<()> {
        if self.more_edges.is_empty() {
            bail!("no edge is the run's own");
        }
        drop(self.more_edges.remove(0));
        Ok(())
    }

    /// Where the ready line stands for those who need a file.
    pub(crate) fn ready_file(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let ready = self.ready.as_ref().context("find the processes: name the platform's run.json with --ready")?;
        let path = folder.join("ready.json");
        std::fs::write(&path, ready.to_string()).context("write the ready line")?;
        Ok(path)
    }

    /// Until the service's admin address says that it is ready.
    pub(crate) fn wait_ready(&self, service: &str) -> anyhow::Result<()> {
        let admin = self.ready.as_ref().and_then(|ready| ready["admin"][service].as_str());
        let admin = admin.with_context(|| format!("find {service} in the ready line"))?.trim_start_matches("http://");
        let until = Instant::now() + PATIENCE;
        while !process::ask(admin, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200) {
            if Instant::now() > until {
                bail!("{service} was not ready within {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
