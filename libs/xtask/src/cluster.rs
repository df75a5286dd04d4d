//! `cargo xtask cluster`: a control plane of Kubernetes on loopback, with simulated nodes, GPU nodes among them.
//!
//! API server, controller manager, scheduler and etcd are the real ones; kwok plays the nodes: it reports pods as ready and
//! lets them go, and runs no container, probe or network. All of it ends with the value.

use crate::check::process::{Server, free_addresses, said};
use crate::tools::kubernetes;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(120);
const ZONES: [&str; 3] = ["a", "b", "c"];
const NODES_IN_ZONE: usize = 2;
/// With one GPU each.
const GPU_NODES: usize = 2;
const VOLUMES: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Where the command line's configuration is written
    #[arg(long, value_name = "FILE", default_value = "target/cluster.kubeconfig")]
    kubeconfig: PathBuf,
}

/// Runs until it is told to end.
pub(crate) fn run(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::start(&crate::tools::folder()?)?;
    fs::copy(&cluster.kubeconfig, &args.kubeconfig)
        .with_context(|| format!("write {}", args.kubeconfig.display()))?;
    let kubeconfig = std::path::absolute(&args.kubeconfig).context("name the configuration")?;
    crate::print(&format!("export KUBECONFIG={}\n", kubeconfig.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = end.recv() => Ok(()),
        }
    })?;
    drop(cluster);
    Ok(ExitCode::SUCCESS)
}

pub(crate) struct Cluster {
    /// Those that need others come later, and end first.
    servers: Vec<Server>,
    kubectl: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) folder: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        while let Some(server) = self.servers.pop() {
            drop(server);
        }
    }
}

impl Cluster {
    pub(crate) fn start(tools: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(tools).with_context(|| format!("create {}", tools.display()))?;
        let [kubectl, etcd] = kubernetes::programs(tools)?;
        let programs = kubernetes::control_plane(tools)?;
        let (kwok, stages) = (kubernetes::kwok(tools)?, kubernetes::stages(tools)?);
        let folder = tempfile::Builder::new().prefix("attune-cluster-").tempdir().context("create a folder")?;
        let at = |name: &str| folder.path().join(name);
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let file = |name: &str, file: &str| format!("--{name}={}", at(file).display());
        let [clients, peers, api, manager, scheduler] = free_addresses()?;
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();

        let token = random()?;
        private(&at("tokens.csv"), &format!("{token},attune,attune,system:masters\n"))?;
        said(Command::new("openssl").args(["genrsa", "-out"]).arg(at("sa.key")).arg("2048"), "make a key")?;
        said(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(at("sa.key")).arg("-out").arg(at("sa.pub")), "make its public key")?;
        let kubeconfig = at("kubeconfig");
        private(&kubeconfig, &configuration(&api, &token).to_string())?;

        let mut servers = Vec::new();
        let mut start = |name: &'static str, command: &mut Command, ready: Option<&str>| {
            let mut server = Server::start(name, command.stdout(Stdio::null()), &at(&format!("{name}.log")))?;
            if let Some(address) = ready {
                server.wait_for(address, START)?;
            }
            servers.push(server);
            anyhow::Ok(())
        };
        let url = |address: &str| format!("http://{address}");
        start(
            "etcd",
            Command::new(etcd).args([
                file("data-dir", "etcd"),
                flag("listen-client-urls", &url(&clients)),
                flag("advertise-client-urls", &url(&clients)),
                flag("listen-peer-urls", &url(&peers)),
                flag("initial-advertise-peer-urls", &url(&peers)),
                flag("initial-cluster", &format!("default={}", url(&peers))),
                "--unsafe-no-fsync".to_owned(),
            ]),
            Some(&clients),
        )?;
        start(
            "kube-apiserver",
            Command::new(programs.join("kube-apiserver")).args([
                flag("etcd-servers", &url(&clients)),
                flag("bind-address", "127.0.0.1"),
                flag("advertise-address", "127.0.0.1"),
                flag("secure-port", &port(&api)),
                file("cert-dir", "certificates"),
                flag("authorization-mode", "RBAC"),
                flag("endpoint-reconciler-type", "none"),
                flag("service-cluster-ip-range", "10.96.0.0/16"),
                flag("service-account-issuer", "https://kubernetes.default.svc"),
                file("service-account-key-file", "sa.pub"),
                file("service-account-signing-key-file", "sa.key"),
                file("token-auth-file", "tokens.csv"),
            ]),
            Some(&api),
        )?;
        let client = format!("--kubeconfig={}", kubeconfig.display());
        start(
            "kube-controller-manager",
            Command::new(programs.join("kube-controller-manager")).args([
                client.clone(),
                flag("bind-address", "127.0.0.1"),
                flag("secure-port", &port(&manager)),
                file("cert-dir", "certificates"),
                file("service-account-private-key-file", "sa.key"),
                flag("leader-elect", "false"),
            ]),
            Some(&manager),
        )?;
        start(
            "kube-scheduler",
            Command::new(programs.join("kube-scheduler")).args([
                client.clone(),
                flag("bind-address", "127.0.0.1"),
                flag("secure-port", &port(&scheduler)),
                file("cert-dir", "certificates"),
                flag("leader-elect", "false"),
            ]),
            Some(&scheduler),
        )?;
        start(
            "kwok",
            Command::new(kwok).args([
                client,
                format!("--config={}", stages.display()),
                "--manage-all-nodes=true".to_owned(),
            ]),
            None,
        )?;
        let cluster = Self { servers, kubectl, kubeconfig, folder };
        cluster.populate()?;
        Ok(cluster)
    }

    /// Nodes in zones, and volumes for whoever asks.
    fn populate(&self) -> anyhow::Result<()> {
        self.eventually("the API server to be ready", || Ok(self.kubectl(&["get", "--raw=/readyz"]).is_ok()))?;
        let mut items = Vec::new();
        for zone in ZONES {
            items.extend((0..NODES_IN_ZONE).map(|i| node(&format!("{zone}-{i}"), zone, false)));
        }
        items.extend((0..GPU_NODES).map(|i| node(&format!("gpu-{i}"), ZONES[i % ZONES.len()], true)));
        let count = items.len();
        items.push(json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "metadata": {"name": "simulated", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        }));
        items.extend((0..VOLUMES).map(volume));
        self.create(&items)?;
        self.eventually("the nodes to be ready", || {
            let nodes = self.get(&["nodes"])?;
            Ok(list(&nodes).filter(|node| condition(node, "Ready")).count() == count)
        })
    }

    pub(crate) fn create(&self, items: &[Value]) -> anyhow::Result<()> {
        let text = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
        self.with_input(&["create", "-f", "-"], &text).map(drop)
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        said(self.command().args(arguments), &format!("kubectl {}", arguments.join(" ")))
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
    }

    pub(crate) fn with_input(&self, arguments: &[&str], text: &str) -> anyhow::Result<String> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        child.stdin.take().context("speak to kubectl")?.write_all(text.as_bytes()).context("speak to kubectl")?;
        let answer = child.wait_with_output().context("wait for kubectl")?;
        if !answer.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&answer.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    }

    /// `kubectl get` of these, as JSON.
    pub(crate) fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let answer = self.kubectl(&[&["get", "--output=json"], arguments].concat())?;
        serde_json::from_str(&answer).context("read kubectl's answer")
    }

    /// Asks again until it is so.
    pub(crate) fn eventually(
        &self,
        what: &str,
        mut holds: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let until = Instant::now() + START;
        while !holds()? {
            if Instant::now() > until {
                bail!("waited {START:?} for {what}");
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }
}

pub(crate) fn list(answer: &Value) -> impl Iterator<Item = &Value> {
    answer["items"].as_array().into_iter().flatten()
}

/// Whether an object's condition is true.
pub(crate) fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|each| each["type"] == name && each["status"] == "True")
}

fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| format!("write {}", path.display()))
}

fn random() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes)).context("read random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The server makes its own certificate, which nobody has signed; it is on loopback.
fn configuration(api: &str, token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "attune",
        "clusters": [{"name": "attune", "cluster": {"server": format!("https://{api}"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "attune", "user": {"token": token}}],
        "contexts": [{"name": "attune", "context": {"cluster": "attune", "user": "attune"}}],
    })
}

fn node(name: &str, zone: &str, gpu: bool) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/zone": zone,
    });
    let mut room = json!({"cpu": "32", "memory": "128Gi", "pods": "110", "ephemeral-storage": "200Gi"});
    let mut taints = json!([]);
    if gpu {
        labels["nvidia.com/gpu.present"] = json!("true");
        room["nvidia.com/gpu"] = json!("1");
        taints = json!([{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]);
    }
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": taints},
        "status": {"capacity": room, "allocatable": room},
    })
}

fn volume(i: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("simulated-{i}")},
        "spec": {
            "capacity": {"storage": "100Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "storageClassName": "simulated", "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": format!("/simulated/{i}")},
        },
    })
}
