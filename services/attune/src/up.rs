//! `attune up`: from an empty folder, or one that is there, to a platform that serves.

use crate::fill::{self, Filling};
use crate::observe::Observe;
use crate::output;
use crate::places::{self, Engines, text};
use crate::platform;
use crate::separate;
use crate::settings::{Settings, Tables};
use crate::simulate::{self, WalkOptions};
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_model::TrainConfig;
use attune_runtime::{Exit, OrExit as _, Shutdown, system_clock};
use attune_storage::{EventLog, Topic};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Args)]
pub struct UpArgs {
    /// Fill an empty state folder from this data set, or raw folder of a known format
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The platform's one data folder
    #[arg(long, value_name = "DIR", default_value = "attune-state")]
    pub state: PathBuf,
    /// Address for visitors; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Keep events in an engine instead of the state folder: kafka://HOST:PORT[,HOST:PORT]
    #[arg(long, value_name = "URL")]
    pub log: Option<String>,
    /// Keep visitors' states and posteriors in an engine instead of the state folder: redis://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Run each service as a process of its own, and restart one that dies
    #[arg(long)]
    pub separate: bool,
    /// Also start Prometheus, Alertmanager and Jaeger, those that are installed
    #[arg(long)]
    pub observe: bool,
    /// Walk this many simulated visitors through the platform (only in a simulated world)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub visitors: usize,
    /// Seed of the simulated world
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Settings: a table for each service
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the ready line as JSON
    #[arg(long)]
    pub json: bool,
}

/// What `up` prints when everything is ready, and not before.
#[derive(Debug, Serialize)]
pub(crate) struct ReadyLine {
    event: &'static str,
    pub(crate) edge: String,
    pub(crate) admin: BTreeMap<&'static str, String>,
    pub(crate) model_version: String,
    pub(crate) items: usize,
    pub(crate) users: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) pids: BTreeMap<&'static str, u32>,
    /// Where the origin speaks gRPC: its API, its reflection, its logs.
    pub(crate) origin_grpc: String,
    /// Addresses of the tools of `--observe` that are installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) observe: Option<BTreeMap<&'static str, String>>,
}

impl ReadyLine {
    pub(crate) fn new(edge: String, origin_grpc: String) -> Self {
        Self {
            event: "ready",
            edge,
            admin: BTreeMap::new(),
            model_version: String::new(),
            items: 0,
            users: 0,
            pids: BTreeMap::new(),
            origin_grpc,
            observe: None,
        }
    }

    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::print_json(self);
        }
        let mut text = format!(
            "ready: {} items, {} users, model {}\n  visitors  {}\n",
            self.items, self.users, self.model_version, self.edge
        );
        let mut addresses: Vec<_> = self.admin.iter().collect();
        addresses.dedup_by_key(|(_, address)| address.as_str());
        for (service, address) in addresses {
            let name = if self.pids.is_empty() { "admin" } else { service };
            text.push_str(&format!("  {name:<9} {address}"));
            if let Some(pid) = self.pids.get(service) {
                text.push_str(&format!("  (pid {pid})"));
            }
            text.push('\n');
        }
        for (tool, address) in self.observe.iter().flatten() {
            text.push_str(&format!("  {tool:<12} {address}\n"));
        }
        text.push_str(&format!(
            "try: curl -s {}/v1/personalize -H 'content-type: application/json' -d '{{\"user_id\":\"1\",\"limit\":5}}'",
            self.edge
        ));
        output::print(&text)
    }
}

pub(crate) fn run(args: UpArgs) -> anyhow::Result<()> {
    let tables = Tables::read(args.config.as_deref())?;
    let state = StateFolder::open(&args.state)?;
    let mut tables = with_places(tables, &state, &args)?;
    let mut settings = tables.settings()?;
    let engines = Engines::choose(&state, &args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let world = prepare(&runtime, &state, &args, &settings, &engines)?;
    runtime.block_on(async {
        let stop = Shutdown::new();
        stop.on_signals().context("listen for signals")?;
        let observe = if args.observe {
            let starting = Observe::start(&state);
            let observe = tokio::select! {
                observe = starting => observe?,
                () = stop.wait() => return Ok(()),
            };
            observe.point(&mut tables);
            settings = tables.settings()?;
            Some(observe)
        } else {
            None
        };
        let result = live(&args, &state, world, (&tables, settings), &engines, observe.as_ref(), stop).await;
        // The last traces are out by now.
        if let Some(observe) = observe {
            observe.ended().await;
        }
        result
    })
}

/// From the start of the services to their end.
async fn live(
    args: &UpArgs,
    state: &StateFolder,
    world: Option<u64>,
    (tables, settings): (&Tables, Settings),
    engines: &Engines,
    observe: Option<&Observe>,
    stop: Shutdown,
) -> anyhow::Result<()> {
    let observed = |mut ready: ReadyLine| {
        ready.observe = observe.map(|observe| observe.watch(&ready)).transpose()?;
        anyhow::Ok(ready)
    };
    if args.separate {
        let running = tokio::select! {
            running = separate::start(state, tables, args) => running?,
            () = stop.wait() => return Ok(()),
        };
        let ready = observed(running.ready())?;
        engines.keep(state)?;
        return serve(args, state, world, ready, stop, |stop| running.ended(stop)).await;
    }
    let starting = platform::start(state, settings, system_clock(), system_clock());
    let running = tokio::select! {
        running = starting => running?,
        () = stop.wait() => return Ok(()),
    };
    let ready = observed(running.ready())?;
    engines.keep(state)?;
    serve(args, state, world, ready, stop, |stop| async move {
        let closed = tokio::select! {
            () = stop.wait() => Ok(()),
            () = running.shutdown.wait() => Ok(()),
            error = attune_storage::must_restart() => places::refuse(Err(error), || "keep the stores".to_owned()),
        };
        running.shutdown.trigger();
        running.ended().await.and(closed)
    })
    .await
}

/// Says that the platform is ready, sends visitors where some are wanted, and waits for the end.
async fn serve<F: Future<Output = anyhow::Result<()>>>(
    args: &UpArgs,
    state: &StateFolder,
    world: Option<u64>,
    ready: ReadyLine,
    stop: Shutdown,
    ended: impl FnOnce(Shutdown) -> F,
) -> anyhow::Result<()> {
    std::fs::write(state.root().join("run.json"), serde_json::to_vec(&ready)?).context("write run.json")?;
    let keys = tokio::spawn(keep_log_key(state.clone()));
    let result = serve_until(args, world, ready, stop, ended).await;
    keys.abort();
    result
}

/// A platform that runs for weeks lets go of old keys as one does that starts again.
async fn keep_log_key(state: StateFolder) {
    let clock = system_clock();
    let mut hours = tokio::time::interval(Duration::from_secs(3600));
    loop {
        hours.tick().await;
        if let Err(error) = state.log_key(clock()) {
            output::note(&format!("attune: {}", output::one_line(&error)));
        }
    }
}

async fn serve_until<F: Future<Output = anyhow::Result<()>>>(
    args: &UpArgs,
    world: Option<u64>,
    ready: ReadyLine,
    stop: Shutdown,
    ended: impl FnOnce(Shutdown) -> F,
) -> anyhow::Result<()> {
    ready.print(args.json)?;
    if args.visitors > 0 {
        let seed = world
            .context("--visitors needs a simulated world: this folder was filled from data")
            .or_exit(Exit::Usage)?;
        let mut options = WalkOptions::new(ready.edge.clone(), Arc::new(fill::world(seed)?), args.visitors, seed);
        options.json = args.json;
        let walking = tokio::spawn(simulate::walk(options, stop.clone()));
        let result = ended(stop).await;
        match walking.await.context("walk the visitors").and_then(|walked| walked) {
            Ok(report) => simulate::print_report(&report, args.json)?,
            Err(error) => output::note(&format!("attune: {}", output::one_line(&error))),
        }
        return result;
    }
    ended(stop).await
}

/// Every place in the state folder, as the services' settings, unless the file says otherwise.
pub(crate) fn with_places(mut tables: Tables, state: &StateFolder, args: &UpArgs) -> anyhow::Result<Tables> {
    let engines = Engines::choose(state, args)?;
    let is_kafka = engines.log.is_some();
    tables.default("origin", "own.event_log", engines.log.clone().unwrap_or_else(|| text(&state.event_log())));
    if let Some(log) = engines.log {
        tables.default("embedder", "own.event_log", log);
    }
    if let Some(store) = &engines.store {
        tables.default("origin", "own.features", store.as_str());
    }
    let keeps_checkpoints = engines.store.is_some() || !is_kafka;
    tables.default("embedder", "own.state", engines.store.unwrap_or_else(|| text(&state.features())));
    tables.default("embedder", "own.checkpoints", text(&state.checkpoints()));
    let embedder = tables.settings()?.embedder;
    if keeps_checkpoints && embedder.checkpoints().is_some() {
        tables.default("origin", "checkpoint_every", embedder.checkpoint_every.to_string());
    }
    tables.default("embedder", "insight.folder", text(&state.features()));
    tables.default("edge", "listen", args.listen.to_string());
    if !args.separate {
        tables.default("edge", "process.admin", free_or(args.listen, 9101));
        let origin = if args.listen.port() == 8080 {
            SocketAddr::new(args.listen.ip(), 9002)
        } else {
            tables.reserve(args.listen.ip())?
        };
        tables.default("origin", "process.grpc.listen", origin.to_string());
        // What `/v1/about` tells: the channel itself needs no address.
        tables.default("edge", "own.origin", format!("http://{origin}"));
    }
    state.log_key(system_clock()())?;
    for folder in ["logs", "traces"] {
        std::fs::create_dir_all(state.root().join(folder)).context("create the folders of logs and traces")?;
    }
    for service in crate::settings::SERVICES {
        let name = if args.separate { service } else { "attune" };
        tables.default(service, "process.telemetry.traces", text(&state.traces(name)));
        tables.default(service, "process.telemetry.logs.file", text(&state.root().join(format!("logs/{name}.jsonl"))));
        tables.default(service, "process.telemetry.log_key.file", text(&state.log_key_path()));
    }
    tables.default("retrieval", "index.snapshots", text(&state.index()));
    Ok(tables)
}

/// The usual port beside the usual visitors' port; any free one where visitors are elsewhere.
fn free_or(listen: SocketAddr, port: u16) -> String {
    let port = if listen.port() == 8080 { port } else { 0 };
    SocketAddr::new(listen.ip(), port).to_string()
}

/// The log that a folder is to be filled into. One that holds another platform's records is refused.
async fn begin_filling(state: &StateFolder, settings: &Settings) -> anyhow::Result<Arc<dyn EventLog>> {
    let log = places::event_log(settings, "attune-filling", None).await?;
    let place = &settings.origin.own.event_log;
    let filling = state.root().join("FILLING");
    if attune_storage::is_engine(place) && !filling.exists() {
        let items = log.bounds(Topic::ItemUpdates).await.context("read the event log")?.end;
        if items > 0 {
            return Err(anyhow::anyhow!(
                "{place} holds {items} records of another platform: start that one's state folder, or set \
                 origin.engines.kafka.topic_prefix to keep this one's apart"
            ))
            .or_exit(Exit::Data);
        }
    }
    std::fs::write(&filling, "").context("write FILLING")?;
    Ok(log)
}

/// Fills and trains what is not there yet. Gives the seed of the world the folder was filled from, if it was.
fn prepare(
    runtime: &tokio::runtime::Runtime,
    state: &StateFolder,
    args: &UpArgs,
    settings: &Settings,
    engines: &Engines,
) -> anyhow::Result<Option<u64>> {
    if let Ok(text) = std::fs::read_to_string(state.filled_marker()) {
        if args.data.is_some() && text.trim() != "data" {
            return Err(anyhow::anyhow!(
                "{} holds a simulated world already; choose another --state for --data",
                state.root().display()
            ))
            .or_exit(Exit::Usage);
        }
        return Ok(text.trim().strip_prefix("world ").and_then(|seed| seed.parse().ok()));
    }
    let filling = match &args.data {
        Some(path) => Filling::Data(path.clone()),
        None => Filling::World { seed: args.seed },
    };
    let now = (system_clock())();
    let log = runtime.block_on(begin_filling(state, settings))?;
    engines.keep(state)?;
    let data = fill::read(state, &filling, now)?;
    if state.bundle().is_none() {
        let config = TrainConfig { created_at: now, ..TrainConfig::default() };
        fill::train(state, &data, &config)?;
    }
    runtime.block_on(fill::fill(&*log, &data, now))?;
    let (marker, world) = match filling {
        Filling::Data(_) => ("data\n".to_owned(), None),
        Filling::World { seed } => (format!("world {seed}\n"), Some(seed)),
    };
    std::fs::write(state.filled_marker(), marker).context("write FILLED")?;
    let _ = std::fs::remove_file(state.root().join("FILLING"));
    Ok(world)
}
