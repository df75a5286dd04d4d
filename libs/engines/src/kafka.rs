//! One Kafka node, which is broker and controller in one.

mod cluster;
mod properties;

pub use cluster::KafkaCluster;

use crate::LOOPBACK;
use crate::install::{Engine, program};
use crate::server::Server;
use anyhow::{Context as _, anyhow, bail};
use attune_runtime::ReservedPort;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Any will do: clusters do not meet.
const CLUSTER_ID: &str = "AttuneTestClusterAAAAA";
const CONNECT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
pub struct KafkaOptions {
    /// What clients have to show, by SASL/PLAIN without encryption; nothing, where there is none.
    pub login: Option<Login>,
    /// More of `server.properties`.
    pub settings: Vec<(String, String)>,
}

/// Of letters and digits.
#[derive(Debug, Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

#[derive(Debug)]
pub struct Kafka {
    server: Server,
    ports: Ports,
}

#[derive(Debug)]
struct Ports {
    clients: ReservedPort,
    controllers: ReservedPort,
}

impl Ports {
    fn reserve() -> anyhow::Result<Self> {
        Ok(Self { clients: ReservedPort::reserve(LOOPBACK)?, controllers: ReservedPort::reserve(LOOPBACK)? })
    }
}

impl Kafka {
    /// Returns when clients can connect.
    pub fn start(options: &KafkaOptions) -> anyhow::Result<Self> {
        let ports = Ports::reserve()?;
        let voters = [ports.controllers.address().port()];
        let mut node = Self::prepare(1, &voters, ports, options)?;
        node.format()?.finish()?;
        node.restart()?;
        Ok(node)
    }

    /// One for all tests of a process, each with topics and groups of its own.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start(&KafkaOptions::default()).map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// `HOST:PORT`, the same over restarts.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        self.ports.clients.address().to_string()
    }

    /// None while it is killed.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.server.id()
    }

    /// By SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// By SIGTERM, and waits for it: leaders move away first.
    pub fn stop_gracefully(&mut self) -> anyhow::Result<()> {
        self.server.stop_gracefully()
    }

    /// Freezes it: connections stay, and nothing answers.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.server.pause()
    }

    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.server.resume()
    }

    /// Kills it if it runs, and starts it on its files. In a cluster it needs a majority of running nodes, itself included.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_until_ready()
    }

    /// The first half of [`Self::restart`], for several nodes that need each other.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.server.launch()
    }

    /// The port opens when the broker has joined its cluster.
    pub fn wait_until_ready(&self) -> anyhow::Result<()> {
        let address: SocketAddr = self.bootstrap().parse().context("read the broker's address")?;
        self.server.wait_until(|| TcpStream::connect_timeout(&address, CONNECT).is_ok())
    }

    fn prepare(id: usize, voters: &[u16], ports: Ports, options: &KafkaOptions) -> anyhow::Result<Self> {
        let mut server = Server::new("kafka")?;
        let node = properties::Node {
            id,
            voters,
            clients: ports.clients.address().port(),
            data: &server.data().display().to_string(),
        };
        let file = properties_of(&server);
        fs::write(&file, properties::text(&node, options)).context("write server.properties")?;
        let program = program(Engine::Kafka, "kafka")?.display().to_string();
        server.set_command(vec![program, "kafka.Kafka".to_owned(), file.display().to_string()]);
        Ok(Self { server, ports })
    }

    /// Several run beside each other: most of the time is the start of a virtual machine.
    fn format(&self) -> anyhow::Result<Format> {
        let mut command = Command::new(program(Engine::Kafka, "kafka")?);
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(properties_of(&self.server));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Format(command.spawn().context("start Kafka's StorageTool")?))
    }
}

fn properties_of(server: &Server) -> PathBuf {
    server.folder().join("server.properties")
}

struct Format(Child);

impl Format {
    fn finish(self) -> anyhow::Result<()> {
        let answer = self.0.wait_with_output().context("wait for Kafka's StorageTool")?;
        if !answer.status.success() {
            let said = [answer.stdout, answer.stderr].concat();
            bail!("format Kafka's folder: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(())
    }
}
