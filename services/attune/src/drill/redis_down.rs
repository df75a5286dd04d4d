//! Redis is gone, which keeps visitors' states: events stay durable in the log and wait.

use super::stage::{Stage, Verdict, Visitors, require};
use crate::observe::tool;
use crate::separate::leash;
use crate::simulate::WalkOptions;
use anyhow::Context as _;
use attune_runtime::{Exit, OrExit as _, ReservedPort};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Five minutes become 30 s.
const DIVISOR: u32 = 10;
const HEALTHY: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<Verdict> {
    let mut redis = Redis::start(&stage.root.join("redis")).await?;
    stage.did(format!("a Redis server listens at {}", redis.address));
    let store = format!("redis://{}", redis.address);
    let platform = stage.platform("on-redis", "", &["--store".to_owned(), store]).await?;
    stage.watch(&platform, "local").await?;
    let mut options = WalkOptions::new(&platform.ready.edge, stage.world.clone(), 20, stage.seed);
    options.rate = 20.0;
    let visitors = Visitors::walk(options);
    stage.did("20 visitors walk");
    tokio::time::sleep(HEALTHY).await;
    let processed = "sum(rate(streaming_events_processed_total[20s])) > 0";
    let alert = stage.alert("DataPipelineDown", &[], DIVISOR).await?;
    let healthy = stage.signal("events are processed, a second", processed, PATIENCE).await?;
    require(healthy && !stage.is_true(&alert).await?, "the platform is not well before the failure")?;

    redis.kill().await?;
    stage.breaks("Redis is killed");
    stage
        .signal("the embedder repeats its steps, a second", "sum(rate(embedder_retries_total[20s])) > 0", PATIENCE)
        .await?;
    let worse = "sum(rate(personalization_level_total{level!=\"0\"}[20s])) > 0";
    stage.signal("pages at level 1 and worse, a second", worse, PATIENCE).await?;
    stage.signal("records that wait", "max(embedder_lag_records) > 100", PATIENCE).await?;
    let fired = stage.fires(&alert, PATIENCE, |_| true).await?;

    // The runbook's diagnosis, in its order.
    let number = async |expression: &str| anyhow::Ok(stage.value(expression).await?.unwrap_or(0.0));
    let signs = Signs {
        sent: number("sum(rate(edge_events_total{outcome=\"accepted\"}[20s]))").await?,
        stored: number("sum(rate(origin_events_accepted_total[20s]))").await?,
        waiting: number("max(embedder_lag_records)").await?,
        up: number("max(up{job=~\"embedder|attune\"})").await? > 0.0,
        retries: number("sum(rate(embedder_retries_total[20s]))").await?,
        answers: redis.answers().await,
    };
    let failed = number("sum(rate(edge_errors_total[30s]))").await?;
    stage.evidence(format!(
        "events a second: {:.1} sent, {:.1} stored; {:.0} records wait; the embedder is {}, and repeats {:.1} steps a second; \
         {:.1} visitors' requests a second fail",
        signs.sent,
        signs.stored,
        signs.waiting,
        if signs.up { "up" } else { "away" },
        signs.retries,
        failed,
    ));
    stage.evidence(format!("PING to {}: {}", redis.address, if signs.answers { "PONG" } else { "no answer" }));
    let found = signs.conclude();

    redis.start_again().await?;
    stage.did("Redis is there again, empty");
    let recovered = "max(embedder_lag_records) < 100 and on () sum(rate(streaming_events_processed_total[20s])) > 0";
    let recovers = stage.signal("all that waited is applied; records that wait", recovered, PATIENCE).await?;
    visitors.stop().await?;
    platform.stop().await?;
    Ok(Verdict {
        is_right: found == Some(Culprit::Store) && fired && recovers,
        cause: found.map(|found| match found {
            Culprit::NoVisitors => "no visitor sends events".to_owned(),
            Culprit::Log => "the log does not take events".to_owned(),
            Culprit::NoProcess => "no embedder is up".to_owned(),
            Culprit::Store => {
                format!("Redis at {} does not answer: events are stored, and their effects wait", redis.address)
            }
        }),
        truth: format!("the Redis server at {} was killed", redis.address),
    })
}

struct Signs {
    sent: f64,
    stored: f64,
    waiting: f64,
    up: bool,
    retries: f64,
    /// Whether the feature store's server answers.
    answers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Culprit {
    NoVisitors,
    Log,
    NoProcess,
    Store,
}

impl Signs {
    /// In the runbook's order; none where nothing explains it.
    fn conclude(&self) -> Option<Culprit> {
        match self {
            Self { sent, .. } if *sent <= 0.0 => Some(Culprit::NoVisitors),
            Self { stored, .. } if *stored <= 0.0 => Some(Culprit::Log),
            Self { up: false, .. } => Some(Culprit::NoProcess),
            Self { waiting, retries, answers: false, .. } if *waiting > 0.0 && *retries > 0.0 => Some(Culprit::Store),
            _ => None,
        }
    }
}

/// A Redis server of the drill's own, which keeps nothing on disk.
struct Redis {
    program: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
    _port: ReservedPort,
    child: Option<Child>,
}

impl Redis {
    async fn start(folder: &Path) -> anyhow::Result<Self> {
        let program = tool::find("redis-server");
        let program = program.with_context(|| format!("Redis is not installed: {}", tool::how_to_install("redis")));
        std::fs::create_dir_all(folder).context("create Redis' folder")?;
        let port = ReservedPort::reserve(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let mut redis = Self {
            program: program.or_exit(Exit::TryLater)?,
            folder: folder.to_owned(),
            address: port.address(),
            _port: port,
            child: None,
        };
        redis.start_again().await?;
        Ok(redis)
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.program);
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &self.address.port().to_string(),
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.arg("--dir").arg(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        leash(&mut command);
        self.child = Some(command.spawn().context("start Redis")?);
        let begun = Instant::now();
        while !self.answers().await {
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "Redis did not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("kill Redis")?;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        let ping = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(b"PING\r\n").await?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).await?;
            std::io::Result::Ok(&answer == b"+PONG\r\n")
        };
        matches!(tokio::time::timeout(Duration::from_secs(1), ping).await, Ok(Ok(true)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_named_only_where_all_before_it_is_well() {
        let down = || Signs { sent: 9.0, stored: 9.0, waiting: 500.0, up: true, retries: 2.0, answers: false };
        assert_eq!(down().conclude(), Some(Culprit::Store));
        assert_eq!(Signs { sent: 0.0, ..down() }.conclude(), Some(Culprit::NoVisitors));
        assert_eq!(Signs { stored: 0.0, ..down() }.conclude(), Some(Culprit::Log));
        assert_eq!(Signs { up: false, ..down() }.conclude(), Some(Culprit::NoProcess));
        for well in
            [Signs { answers: true, ..down() }, Signs { retries: 0.0, ..down() }, Signs { waiting: 0.0, ..down() }]
        {
            assert_eq!(well.conclude(), None);
        }
    }
}
