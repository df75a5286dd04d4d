//! `attune rebuild`: what is computed from the event log, computed anew while the platform is stopped.
//!
//! A rebuild that is broken off goes on with the next start of the platform.

use crate::output;
use crate::places::{self, refuse};
use crate::platform::catch_up;
use crate::settings::{Settings, Tables};
use crate::state::StateFolder;
use crate::up::{UpArgs, with_places};
use anyhow::Context as _;
use attune_domain::UnixMillis;
use attune_embedder::{Embedder, EmbedderStats, insight};
use attune_runtime::{Exit, OrExit as _, system_clock};
use attune_storage::{
    EmbeddedDecisionLog, EventLog, FeatureStore, Topic, USER_UPDATES_CONSUMER, check_checkpoints, checkpoint_path,
    open_feature_store, partition_of,
};
use attune_telemetry::{ServiceInfo, Telemetry};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The state folder of a platform that is stopped
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Where to begin: start, checkpoint, or with --only insight a time such as 2026-01-29T10:00:00Z
    #[arg(long, value_name = "FROM", default_value = "start", value_parser = from)]
    pub from: From,
    /// Rebuild this alone: the visitors' states and posteriors are left as they are
    #[arg(long, value_name = "WHAT")]
    pub only: Option<Only>,
    /// Settings: a table for each service
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the last line as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where a rebuild begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Start,
    Checkpoint,
    Time(UnixMillis),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// The metrics of the stream
    Insight,
}

fn from(text: &str) -> Result<From, String> {
    match text {
        "start" => Ok(From::Start),
        "checkpoint" => Ok(From::Checkpoint),
        _ => {
            let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok();
            let ms = time.and_then(|time| i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).ok());
            ms.map(From::Time).ok_or_else(|| "must be start, checkpoint or a time such as 2026-01-29T10:00:00Z".into())
        }
    }
}

/// What was done.
#[derive(Debug, Serialize)]
struct Rebuilt {
    event: &'static str,
    from: &'static str,
    /// Records of events replayed from the log, and those whose effects came from checkpoints.
    events: u64,
    restored: u64,
    users: u64,
    seconds: f64,
    /// Replayed and restored.
    events_per_s: u64,
}

/// Where the metrics of the stream begin at the next start.
#[derive(Debug, Serialize)]
struct Rewound {
    event: &'static str,
    /// Records of events that will be read.
    events: u64,
}

pub(crate) fn run(args: &RebuildArgs) -> anyhow::Result<()> {
    match (args.only, args.from) {
        (None, From::Time(_)) => {
            return Err(output::bad_usage("--from TIME needs --only insight: a state is made of all events before it"));
        }
        (Some(Only::Insight), From::Checkpoint) => {
            return Err(output::bad_usage(
                "--only insight goes on from its checkpoint by itself; --from start or a time",
            ));
        }
        _ => {}
    }
    let state = StateFolder::reopen(&args.state)?;
    if !state.filled_marker().exists() {
        return Err(output::bad_data(format!("{} was never filled: there is no log", state.root().display())));
    }
    let settings = with_places(Tables::read(args.config.as_deref())?, &state, &places_of(args))?.settings()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        // Held to the end: engines are open to everybody, this folder belongs to the one who runs the platform.
        let decisions = EmbeddedDecisionLog::open(&state.decision_log());
        let _owner = refuse(decisions, || format!("open the decision log in {}", state.root().display()))?;
        let log = places::event_log(&settings, "attune-rebuild", None).await?;
        match args.only {
            Some(Only::Insight) => rewind(args, &settings, &*log).await,
            None => rebuild(args, &settings, log).await,
        }
    })
}

/// The places that `up` would choose without flags.
fn places_of(args: &RebuildArgs) -> UpArgs {
    UpArgs {
        data: None,
        state: args.state.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
        log: None,
        store: None,
        separate: true,
        observe: false,
        visitors: 0,
        seed: 1,
        config: None,
        json: false,
    }
}

async fn rewind(args: &RebuildArgs, settings: &Settings, log: &dyn EventLog) -> anyhow::Result<()> {
    let at = match args.from {
        From::Time(at) => Some(at),
        From::Start | From::Checkpoint => None,
    };
    let events = insight::rewind(&settings.embedder.insight.folder, log, at).await.context("rewind the metrics")?;
    if args.json {
        return output::print_json(&Rewound { event: "rewound", events });
    }
    output::print(&format!("rewound: the next start computes the stream's metrics from {events} events"))
}

async fn rebuild(args: &RebuildArgs, settings: &Settings, log: Arc<dyn EventLog>) -> anyhow::Result<()> {
    let clock = system_clock();
    let info = ServiceInfo { service: "embedder", version: env!("CARGO_PKG_VERSION"), instance: "local".to_owned() };
    let (telemetry, _guard) =
        Telemetry::start(&settings.embedder.process.telemetry, info, clock.clone()).or_exit(Exit::Usage)?;
    let partitions = log.partitions(Topic::UserEvents).await.context("read the event log")?.len();
    begin(args, settings, partitions)?;
    let (place, engines) = (&settings.embedder.own.state, &settings.embedder.engines);
    let options = settings.embedder.feature_options(clock.clone());
    let store = open_feature_store(place, engines, partitions, options, &telemetry).await;
    let store = refuse(store, || format!("open the feature store in {place}"))?;
    let embedder = Embedder::new(Arc::clone(&log), Arc::clone(&store), settings.embedder.clone(), clock);
    let embedder = embedder.telling(telemetry);
    let started = Instant::now();
    if !embedder.empty_store().await.context("empty the feature store")? {
        return Err(output::bad_usage(format!(
            "the feature store in {place} cannot be rebuilt from a log of {partitions} partitions; remove the folder \
             while the platform is stopped"
        )));
    }
    let stats = embedder.stats();
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let consuming = tokio::spawn(embedder.run(stopping));
    let consumed = async { consuming.await.context("consume the event log")?.context("consume the event log") };
    let caught_up = async {
        all_applied(&*log, &*store).await?;
        let seconds = started.elapsed().as_secs_f64();
        // Where a partition came from is counted just after it is there.
        let bounds = log.partitions(Topic::UserEvents).await.context("read the event log")?;
        let emptied = bounds.iter().filter(|b| b.end > attune_storage::first_offset(partition_of(b.end))).count();
        while stats.restored.load(Relaxed) + stats.replayed.load(Relaxed) < emptied as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.send_replace(true);
        anyhow::Ok(seconds)
    };
    // A consumer that ends with an error ends the waiting.
    let ((), seconds) = tokio::try_join!(consumed, caught_up)?;
    report(args, &*log, &*store, &stats, seconds).await
}

/// From the start: without checkpoints. From a checkpoint: there must be one for each partition.
fn begin(args: &RebuildArgs, settings: &Settings, partitions: usize) -> anyhow::Result<()> {
    let folder = settings.embedder.checkpoints();
    let folder = folder.context("embedder.own.checkpoints: must name a folder").or_exit(Exit::Usage)?;
    check_checkpoints(folder).or_exit(Exit::Data)?;
    for partition in 0..u16::try_from(partitions).unwrap_or(u16::MAX) {
        let path = checkpoint_path(folder, partition);
        match args.from {
            From::Checkpoint if !path.exists() => {
                let missing = format!("there is no checkpoint {}; --from start needs none", path.display());
                return Err(output::bad_data(missing));
            }
            From::Checkpoint => {}
            From::Start | From::Time(_) => match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("remove {}", path.display())).or_exit(Exit::TryLater);
                }
                _ => {}
            },
        }
    }
    Ok(())
}

async fn all_applied(log: &dyn EventLog, store: &dyn FeatureStore) -> anyhow::Result<()> {
    catch_up(log, store).await?;
    for bounds in log.partitions(Topic::UserUpdates).await.context("read the event log")? {
        let wait = Duration::from_millis(200);
        while store.wait_applied(USER_UPDATES_CONSUMER, bounds.end, wait).await.context("apply attributes")?
            < bounds.end
        {}
    }
    Ok(())
}

async fn report(
    args: &RebuildArgs,
    log: &dyn EventLog,
    store: &dyn FeatureStore,
    stats: &EmbedderStats,
    seconds: f64,
) -> anyhow::Result<()> {
    let bounds = log.partitions(Topic::UserEvents).await.context("read the event log")?;
    let all: u64 = bounds.iter().map(|b| b.end - attune_storage::first_offset(partition_of(b.end))).sum();
    let restored = stats.records_restored.load(Relaxed);
    let rebuilt = Rebuilt {
        event: "rebuilt",
        from: if args.from == From::Checkpoint { "checkpoint" } else { "start" },
        events: all - restored.min(all),
        restored,
        users: store.user_count().await.context("count visitors")?,
        seconds,
        events_per_s: (all as f64 / seconds.max(1e-9)) as u64,
    };
    if args.json {
        return output::print_json(&rebuilt);
    }
    let Rebuilt { from, events, restored, users, events_per_s, .. } = rebuilt;
    output::print(&format!(
        "rebuilt from {from}: {users} users, {events} events replayed and {restored} from checkpoints, in \
         {seconds:.1} s ({events_per_s} events/s)"
    ))
}
