//! `up --separate`: each service a process of its own; one that dies is started again.

use crate::settings::{SERVICES, Tables};
use crate::state::StateFolder;
use crate::up::{ReadyLine, UpArgs};
use anyhow::Context as _;
use attune_runtime::{Exit, Fatal, OrExit as _, ReservedPort, Shutdown};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const START_LIMIT: Duration = Duration::from_secs(120);
const DRAIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(25);
/// A process that lived longer than this is started again at once; a shorter life waits longer each time.
const LONG_LIFE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Until all have served once, a process that ends this often cannot be started, and says itself why.
const LIVES: u32 = 3;

struct Process {
    name: &'static str,
    arguments: Vec<String>,
    admin: SocketAddr,
    pid: AtomicU32,
}

/// Seven processes that serve.
pub(crate) struct Separate {
    processes: Vec<Arc<Process>>,
    edge: SocketAddr,
    origin_grpc: SocketAddr,
    children: JoinSet<()>,
    /// Told to the supervisors before the processes are told to end.
    ending: Shutdown,
    model_version: String,
    items: usize,
    users: u64,
    /// The processes' own, also while one is away.
    _ports: Vec<ReservedPort>,
}

pub(crate) async fn start(state: &StateFolder, tables: &Tables, args: &UpArgs) -> anyhow::Result<Separate> {
    let ip = args.listen.ip();
    let mut ports = Vec::new();
    let mut reserve = || {
        let port = ReservedPort::reserve(ip)?;
        let address = port.address();
        ports.push(port);
        anyhow::Ok(address)
    };
    let admin = SERVICES.map(|_| reserve()).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let grpc = SERVICES.map(|_| reserve()).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let edge = if args.listen.port() == 0 { reserve()? } else { args.listen };
    let address = |name: &str| {
        SERVICES.iter().position(|s| *s == name).map(|i| format!("http://{}", grpc[i])).unwrap_or_default()
    };
    let bundle = state.bundle().context("find the live bundle")?;
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut processes = Vec::new();
    for (i, name) in SERVICES.into_iter().enumerate() {
        let mut pairs = tables.overrides(name);
        let mut set = |key: &str, value: String| pairs.push((key.to_owned(), value));
        set("process.admin", admin[i].to_string());
        set("process.grpc.listen", grpc[i].to_string());
        set("process.instance", format!("{name}-0"));
        let bus = if name == "origin" { "hub".to_owned() } else { address("origin") };
        set("process.telemetry.decision_bus", bus);
        if name != "llm" {
            set("own.bundle", path(&bundle));
        }
        if !matches!(name, "origin" | "llm") {
            set("own.origin", address("origin"));
        }
        match name {
            "edge" => {
                set("listen", edge.to_string());
                set("own.subject_key", path(&state.subject_key_path()));
            }
            "origin" => {
                set("own.decision_log", path(&state.decision_log()));
                for peer in ["retrieval", "ranking", "bandit", "llm", "embedder"] {
                    set(&format!("own.{peer}"), address(peer));
                }
            }
            "bandit" => set("own.embedder", address("embedder")),
            _ => {}
        }
        let mut arguments = vec!["service".to_owned(), name.to_owned()];
        for (key, value) in pairs {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        processes.push(Arc::new(Process { name, arguments, admin: admin[i], pid: AtomicU32::new(0) }));
    }

    let ending = Shutdown::new();
    let (given_up, mut failed) = mpsc::channel(1);
    let mut children = JoinSet::new();
    for process in &processes {
        let child = spawn(process)?;
        children.spawn(supervise(Arc::clone(process), child, ending.clone(), given_up.clone()));
    }
    let mut separate = Separate {
        processes,
        edge,
        origin_grpc: grpc[1],
        children,
        ending,
        model_version: String::new(),
        items: 0,
        users: 0,
        _ports: ports,
    };
    let outcome = tokio::select! {
        outcome = all_ready(&separate.processes) => outcome,
        Some(error) = failed.recv() => Err(error),
    };
    if outcome.is_err() {
        separate.ending.trigger();
    }
    outcome?;
    // From now on nobody is given up.
    drop(failed);
    separate.describe(&bundle).await?;
    Ok(separate)
}

async fn all_ready(processes: &[Arc<Process>]) -> anyhow::Result<()> {
    let limit = Instant::now() + START_LIMIT;
    for process in processes {
        while !is_ready(process.admin).await {
            if Instant::now() > limit {
                return Err(anyhow::anyhow!("{} was not ready within {START_LIMIT:?}", process.name))
                    .or_exit(Exit::TryLater);
            }
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

fn spawn(process: &Process) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.args(&process.arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    leash(&mut command);
    let child = command.spawn().with_context(|| format!("start {}", process.name))?;
    process.pid.store(child.id().unwrap_or(0), Ordering::Relaxed);
    Ok(child)
}

/// A launcher that is killed must not leave its processes behind.
pub(crate) fn leash(command: &mut Command) {
    #[expect(unsafe_code, reason = "there is no safe way to ask for a signal at the parent's death")]
    // SAFETY: prctl is async-signal-safe and touches nothing but the calling process.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            // Ctrl-C reaches the whole group; they must outlive the launcher's own draining.
            libc::setpgid(0, 0);
            Ok(())
        });
    }
}

/// Waits for the process; starts it again when it ends before its time. While somebody still listens to `given_up`, it
/// has no more than [`LIVES`].
async fn supervise(process: Arc<Process>, mut child: Child, ending: Shutdown, given_up: mpsc::Sender<anyhow::Error>) {
    let mut pause = Duration::from_millis(50);
    let mut lives = LIVES;
    loop {
        let born = Instant::now();
        let status = child.wait().await;
        if ending.triggered() {
            return;
        }
        lives = lives.saturating_sub(1);
        if lives == 0 && !given_up.is_closed() {
            let exit = status.ok().and_then(|status| status.code()).and_then(Exit::from_code);
            let error = anyhow::anyhow!("{} cannot be started; what it said is above", process.name);
            let _nobody_left = given_up.send(Fatal::new(exit.unwrap_or(Exit::Internal), error).into()).await;
            return;
        }
        let how = status.map(|s| s.to_string()).unwrap_or_else(|e| e.to_string());
        crate::output::note(&format!("attune: {} ended ({how}); starting it again", process.name));
        if born.elapsed() > LONG_LIFE {
            pause = Duration::from_millis(50);
        }
        loop {
            tokio::select! {
                () = ending.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(MAX_PAUSE);
            match spawn(&process) {
                Ok(again) => {
                    child = again;
                    break;
                }
                Err(error) => crate::output::note(&format!("attune: {}", crate::output::one_line(&error))),
            }
        }
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let Ok(request) = Request::get(format!("http://{admin}/readyz")).body(Empty::new()) else { return false };
    let answer = tokio::time::timeout(Duration::from_secs(1), client.request(request)).await;
    matches!(answer, Ok(Ok(response)) if response.status().is_success())
}

impl Separate {
    /// What the platform serves, asked of the processes that know.
    async fn describe(&mut self, bundle: &std::path::Path) -> anyhow::Result<()> {
        use attune_storage::FeatureStore as _;
        let origin = tonic::transport::Endpoint::from_shared(format!("http://{}", self.origin_grpc))
            .context("name the origin's address")?
            .connect_lazy();
        let log = attune_storage::RemoteEventLog::new(origin, Duration::from_secs(5));
        self.items = attune_serving::load_catalogue(&log).await.context("read the catalogue")?.len();
        let manifest = attune_model::Bundle::load(bundle).context("load bundle")?;
        self.model_version = manifest.version().to_string();
        let embedder = self.processes.iter().find(|p| p.name == "embedder");
        let listen = embedder.and_then(|p| p.arguments.iter().find_map(|a| a.strip_prefix("process.grpc.listen=")));
        if let Some(listen) = listen {
            let channel = tonic::transport::Endpoint::from_shared(format!("http://{listen}"))
                .context("name the embedder's address")?
                .connect_lazy();
            let features = attune_storage::RemoteFeatureStore::new(channel, Duration::from_secs(5));
            crate::platform::catch_up(&log, &features).await?;
            self.users = features.user_count().await.context("count visitors")?;
        }
        Ok(())
    }

    pub(crate) fn ready(&self) -> ReadyLine {
        let mut line = ReadyLine::new(format!("http://{}", self.edge), format!("http://{}", self.origin_grpc));
        line.model_version.clone_from(&self.model_version);
        line.items = self.items;
        line.users = self.users;
        line.admin = self.processes.iter().map(|p| (p.name, format!("http://{}", p.admin))).collect();
        line.pids = self.processes.iter().map(|p| (p.name, p.pid.load(Ordering::Relaxed))).collect::<BTreeMap<_, _>>();
        line
    }

    /// Waits for the end, and drains: the edge first, then those it asks, the owners of the stores last.
    pub(crate) async fn ended(mut self, stop: Shutdown) -> anyhow::Result<()> {
        stop.wait().await;
        self.ending.trigger();
        for wave in [&["edge"][..], &["retrieval", "ranking", "bandit", "llm"], &["embedder"], &["origin"]] {
            let pids: Vec<u32> = self
                .processes
                .iter()
                .filter(|p| wave.contains(&p.name))
                .map(|p| p.pid.load(Ordering::Relaxed))
                .collect();
            pids.iter().for_each(|&pid| signal(pid, libc::SIGTERM));
            let limit = Instant::now() + DRAIN;
            while pids.iter().any(|&pid| is_alive(pid)) && Instant::now() < limit {
                tokio::time::sleep(POLL).await;
            }
        }
        self.children.shutdown().await;
        Ok(())
    }
}

pub(crate) fn signal(pid: u32, signal: i32) {
    #[expect(unsafe_code, reason = "std has no way to send a signal")]
    // SAFETY: kill has no memory effects; the pid is that of a child that its supervisor has not yet reaped.
    unsafe {
        libc::kill(pid as i32, signal);
    }
}

fn is_alive(pid: u32) -> bool {
    // A child that ended is reaped by its supervisor at once, after which its folder is gone.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
