//! `up --observe`: the real Prometheus, Alertmanager and Jaeger beside the platform, with the kit of `observability/`.
//!
//! They listen on loopback, on ports of the system's choice, keep everything in the state folder's `observe/`, start
//! before the platform and end after it. One that is not installed is named and left out.

mod kit;
pub(crate) mod prometheus;
pub(crate) mod tool;

use crate::output;
use crate::settings::{SERVICES, Tables};
use crate::state::StateFolder;
use crate::up::ReadyLine;
use anyhow::Context as _;
use attune_runtime::{Exit, OrExit as _, ReservedPort, Shutdown};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;
use tool::{Ready, Start};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) struct Observe {
    targets: PathBuf,
    /// By tool, for people and programs.
    addresses: BTreeMap<&'static str, String>,
    /// Where Jaeger takes traces.
    otlp: Option<String>,
    tools: JoinSet<()>,
    ending: Shutdown,
    /// Of Jaeger, which cannot say what it chose.
    ports: Vec<ReservedPort>,
    _lock: File,
}

impl Observe {
    /// Locks the folder and writes the kit into it.
    fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root).context("create the folder of --observe")?;
        let lock = File::create(root.join(".lock")).context("create the lock of --observe")?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(anyhow::anyhow!("another platform observes itself in {}", root.display()))
                    .or_exit(Exit::TryLater);
            }
            Err(TryLockError::Error(error)) => return Err(error).context("lock the folder of --observe"),
        }
        kit::write(root)?;
        Ok(Self {
            targets: root.join("prometheus/targets"),
            addresses: BTreeMap::new(),
            otlp: None,
            tools: JoinSet::new(),
            ending: Shutdown::new(),
            ports: Vec::new(),
            _lock: lock,
        })
    }

    /// Prometheus alone, with the kit's rules, which looks at everything `every` so often. Gives its address.
    pub(crate) async fn prometheus_only(root: &Path, every: Duration) -> anyhow::Result<(Self, String)> {
        let mut observe = Self::open(root)?;
        kit::hasten(root, every)?;
        let address = observe.prometheus(root).await?;
        let address = address.context("Prometheus is not installed, and nothing else evaluates an alert");
        Ok((observe, address.or_exit(Exit::TryLater)?))
    }

    pub(crate) async fn start(state: &StateFolder) -> anyhow::Result<Self> {
        let root = state.observe();
        let mut observe = Self::open(&root)?;
        let data = |tool: &str| root.join(tool).join("data");
        let flag = |name: &str, path: PathBuf| format!("--{name}={}", path.display());
        let folder = |tool: &str| root.join(tool);

        // Prometheus finds Alertmanager by its target file, and Jaeger is there before the first trace.
        let arguments = [
            "--config.file=alertmanager.yml".to_owned(),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            // One that is alone needs no peers' port.
            "--cluster.listen-address=".to_owned(),
            flag("storage.path", data("alertmanager")),
        ];
        if let Some(at) =
            observe.tool("alertmanager", &folder("alertmanager"), arguments.into(), &[], Ready::Says).await?
        {
            observe.target("alertmanager", &at, "")?;
        }
        observe.prometheus(&root).await?;
        let mut reserve = || {
            let port = ReservedPort::reserve(LOOPBACK)?;
            let address = port.address();
            observe.ports.push(port);
            anyhow::Ok(address)
        };
        let (http, grpc, otlp) = (reserve()?, reserve()?, reserve()?);
        let places = [
            ("ATTUNE_JAEGER_HTTP", http.to_string()),
            ("ATTUNE_JAEGER_GRPC", grpc.to_string()),
            ("ATTUNE_JAEGER", otlp.to_string()),
        ];
        let ready = Ready::Answers { http, path: "/api/services", also: otlp };
        let arguments = ["--config=jaeger.yaml".to_owned()];
        if observe.tool("jaeger", &folder("jaeger"), arguments.into(), &places, ready).await?.is_some() {
            observe.otlp = Some(format!("http://{otlp}"));
        }
        Ok(observe)
    }

    /// Gives its address where it is installed.
    async fn prometheus(&mut self, root: &Path) -> anyhow::Result<Option<String>> {
        let arguments = [
            "--config.file=prometheus.yml".to_owned(),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--enable-feature=exemplar-storage".to_owned(),
            "--storage.tsdb.retention.time=35d".to_owned(),
            format!("--storage.tsdb.path={}", root.join("prometheus/data").display()),
        ];
        let region = [("ATTUNE_REGION", "local".to_owned())];
        let folder = root.join("prometheus");
        let started = self.tool("prometheus", &folder, arguments.into(), &region, Ready::Says).await?;
        if let Some(at) = &started {
            self.target("prometheus", at, "")?;
        }
        Ok(started)
    }

    /// Starts a tool, or says that it is not installed.
    async fn tool(
        &mut self,
        name: &'static str,
        folder: &Path,
        arguments: Vec<String>,
        environment: &[(&str, String)],
        ready: Ready,
    ) -> anyhow::Result<Option<String>> {
        let Some(program) = tool::find(name) else {
            output::note(&format!("attune: {name} is not installed and left out: {}", tool::how_to_install(name)));
            return Ok(None);
        };
        let start = Start { name, program, folder, arguments, environment };
        let (address, running) = start.run(ready).await.or_exit(Exit::TryLater)?;
        self.tools.spawn(running.until(self.ending.clone()));
        self.addresses.insert(name, format!("http://{address}"));
        Ok(Some(address))
    }

    /// Sends kept traces to Jaeger, unless the settings already send them elsewhere.
    pub(crate) fn point(&self, tables: &mut Tables) {
        if let Some(otlp) = &self.otlp {
            for service in SERVICES {
                tables.default(service, "process.telemetry.otlp", otlp.clone());
            }
        }
    }

    /// Tells Prometheus the processes of a platform that is ready, and gives the addresses of the tools.
    pub(crate) fn watch(&self, ready: &ReadyLine) -> anyhow::Result<BTreeMap<&'static str, String>> {
        // Without pids one process answers for all services.
        let one_process = ready.pids.is_empty();
        for (service, address) in &ready.admin {
            let job = if one_process { "attune" } else { service };
            self.target(job, address.trim_start_matches("http://"), "local")?;
        }
        Ok(self.addresses.clone())
    }

    pub(crate) fn target(&self, job: &str, address: &str, region: &str) -> anyhow::Result<()> {
        self.targets(job, &[(region, address)])
    }

    /// Regions and addresses. Replaced in one step, since Prometheus reads it when it changes.
    pub(crate) fn targets(&self, job: &str, targets: &[(&str, &str)]) -> anyhow::Result<()> {
        let group = |(region, address): &(&str, &str)| {
            // A wildcard address is for listening.
            let address = match address.parse::<SocketAddr>() {
                Ok(wild) if wild.ip().is_unspecified() => SocketAddr::new(LOOPBACK, wild.port()).to_string(),
                _ => (*address).to_owned(),
            };
            let labels = if region.is_empty() { json!({}) } else { json!({ "region": region }) };
            json!({ "targets": [address], "labels": labels })
        };
        let text = json!(targets.iter().map(group).collect::<Vec<_>>()).to_string();
        let fresh = self.targets.join(format!(".{job}.new"));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, self.targets.join(format!("{job}.json"))))
            .with_context(|| format!("write the targets of {job}"))
    }

    /// Ends the tools.
    pub(crate) async fn ended(mut self) {
        self.ending.trigger();
        while self.tools.join_next().await.is_some() {}
    }
}
