//! `attune drill`: breaks a platform in a known way and follows the runbook, until the alert's expression is true and the
//! signals name the cause.
//!
//! Always holds: an expression is the one that a real Prometheus loaded from the kit, evaluated by it, and where its
//! ranges are too long for a drill it is the same with them divided, and called so; what concludes the cause reads
//! signals and never what was broken; only processes that the drill started are touched, and they end with it.

mod bent_world;
mod embedding_pipeline;
mod latency;
mod llm_down;
mod model_server;
mod platform;
mod redis_down;
mod region_drain;
mod report;
mod shorten;
mod silent_drift;
mod stage;
mod suspects;

use crate::output;
use anyhow::Context as _;
use attune_runtime::{Exit, Fatal, OrExit as _, Shutdown};
use clap::{Args, ValueEnum};
use report::DrillReport;
use stage::{Stage, Verdict};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct DrillArgs {
    /// What is to fail
    #[arg(value_enum)]
    pub name: Drill,
    /// Folder of the drill's platform, kept afterwards; without it a temporary one
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Seed of the simulated world
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Print the report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Drill {
    /// An upstream job stops filling a feature of new visitors
    SilentDrift,
    /// The ranking process does not get its CPU
    Latency,
    /// The embedder stands still
    EmbeddingPipeline,
    /// The language model's server is gone
    LlmDown,
    /// Redis is gone
    RedisDown,
    /// A region's traffic moves to another one
    RegionDrain,
    /// Visitors come who are not those of the training
    OtherCrowd,
    /// A setting gives everybody the same few items
    DominatedImpressions,
    /// A setting ends exploration
    FrozenExploration,
}

impl Drill {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SilentDrift => "silent-drift",
            Self::Latency => "latency",
            Self::EmbeddingPipeline => "embedding-pipeline",
            Self::LlmDown => "llm-down",
            Self::RedisDown => "redis-down",
            Self::RegionDrain => "region-drain",
            Self::OtherCrowd => "other-crowd",
            Self::DominatedImpressions => "dominated-impressions",
            Self::FrozenExploration => "frozen-exploration",
        }
    }
}

pub(crate) fn run(args: &DrillArgs) -> anyhow::Result<()> {
    let folder = Folder::open(args.state.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let report = runtime.block_on(async {
        let stop = Shutdown::new();
        stop.on_signals().context("listen for signals")?;
        tokio::select! {
            report = drill(args, &folder) => report.map(Some),
            () = stop.wait() => Ok(None),
        }
    })?;
    // What was frozen runs again by now, and what was started ends with this.
    let Some(report) = report else {
        return Err(Fatal::new(Exit::Differs, anyhow::anyhow!("drill {}: interrupted", args.name.as_str())).into());
    };
    report.print(args.json)?;
    if !report.passed {
        let message = "the alert's expression did not become true, or the cause was not found";
        return Err(Fatal::new(Exit::Differs, anyhow::anyhow!("drill {}: {message}", report.drill)).into());
    }
    Ok(())
}

async fn drill(args: &DrillArgs, folder: &Folder) -> anyhow::Result<DrillReport> {
    let mut stage = Stage::new(args.name.as_str(), &folder.root, args.seed)?;
    let verdict: Verdict = match args.name {
        Drill::SilentDrift => silent_drift::run(&mut stage).await,
        Drill::Latency => latency::run(&mut stage).await,
        Drill::EmbeddingPipeline => embedding_pipeline::run(&mut stage).await,
        Drill::LlmDown => llm_down::run(&mut stage).await,
        Drill::RedisDown => redis_down::run(&mut stage).await,
        Drill::RegionDrain => region_drain::run(&mut stage).await,
        Drill::OtherCrowd => bent_world::other_crowd(&mut stage).await,
        Drill::DominatedImpressions => bent_world::dominated_impressions(&mut stage).await,
        Drill::FrozenExploration => bent_world::frozen_exploration(&mut stage).await,
    }?;
    Ok(stage.end(verdict).await)
}

/// The drill's folder. A temporary one is removed at the end.
struct Folder {
    root: PathBuf,
    is_temporary: bool,
}

impl Folder {
    fn open(state: Option<PathBuf>) -> anyhow::Result<Self> {
        let is_temporary = state.is_none();
        let root = state.unwrap_or_else(|| std::env::temp_dir().join(format!("attune-drill-{}", std::process::id())));
        if root.join("FORMAT").exists() {
            let message = "is the state folder of a platform; a drill keeps folders of its own in --state";
            return Err(output::bad_usage(format!("{} {message}", root.display())));
        }
        std::fs::create_dir_all(&root)
            .and_then(|()| root.canonicalize())
            .with_context(|| format!("create {}", root.display()))
            .or_exit(Exit::TryLater)
            .map(|root| Self { root, is_temporary })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            // What is left is in the system's folder for such things.
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }
}
