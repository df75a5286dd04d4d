//! One Redis server.

mod cluster;

pub use cluster::RedisCluster;

use crate::LOOPBACK;
use crate::install::{Engine, program};
use crate::server::Server;
use anyhow::{Context as _, anyhow, bail};
use attune_runtime::ReservedPort;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Whether it keeps what it answered for over a kill.
    pub append_only: bool,
    /// In bytes; writes beyond it are refused.
    pub max_memory: Option<u64>,
    /// Of letters and digits.
    pub password: Option<String>,
    /// More of `redis.conf`.
    pub settings: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Redis {
    server: Server,
    port: ReservedPort,
    password: Option<String>,
    cli: PathBuf,
}

impl Redis {
    /// Returns when it answers.
    pub fn start(options: &RedisOptions) -> anyhow::Result<Self> {
        let program = program_named("redis-server")?;
        let mut server = Server::new("redis")?;
        let port = ReservedPort::reserve(LOOPBACK)?;
        let mut command = vec![program.display().to_string()];
        for (key, value) in settings(options, &port, server.data().display().to_string()) {
            command.extend([format!("--{key}"), value]);
        }
        server.set_command(command);
        let cli = program_named("redis-cli")?;
        let mut redis = Self { server, port, password: options.password.clone(), cli };
        redis.restart()?;
        Ok(redis)
    }

    /// One for all tests of a process, each with keys or a database of its own. It keeps nothing on disk.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<Redis, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Self::start(&RedisOptions::default()).map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// `HOST:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    #[must_use]
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@{}", self.address()),
            None => format!("redis://{}", self.address()),
        }
    }

    /// None while it is killed.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.server.id()
    }

    /// What it answers to a command, as text; an answer that is an error is one here. Waits while the server is paused.
    pub fn ask(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut cli = Command::new(&self.cli);
        cli.args(["-e", "-h", "127.0.0.1", "-p", &self.port.address().port().to_string()]).args(command);
        if let Some(password) = &self.password {
            cli.env("REDISCLI_AUTH", password);
        }
        let answer = cli.stdin(Stdio::null()).output().context("start redis-cli")?;
        if !answer.status.success() {
            let said = [answer.stdout, answer.stderr].concat();
            bail!("redis refused {}: {}", command.join(" "), String::from_utf8_lossy(&said).trim());
        }
        Ok(String::from_utf8_lossy(&answer.stdout).trim_end().to_owned())
    }

    /// By SIGKILL.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.server.kill()
    }

    /// By SIGTERM, and waits for it.
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

    /// Kills it if it runs, and starts it on the files that it wrote: nothing, unless it is `append_only`.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.server.launch()?;
        self.server.wait_until(|| self.ask(&["PING"]).is_ok())
    }

    /// As if its disk were lost.
    pub fn restart_empty(&mut self) -> anyhow::Result<()> {
        self.server.kill()?;
        self.server.empty()?;
        self.restart()
    }
}

fn settings(options: &RedisOptions, port: &ReservedPort, data: String) -> Vec<(String, String)> {
    let mut settings = vec![
        ("bind", "127.0.0.1".to_owned()),
        ("port", port.address().port().to_string()),
        ("dir", data),
        ("save", String::new()),
        ("appendonly", if options.append_only { "yes" } else { "no" }.to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
    ];
    settings.extend(options.max_memory.map(|bytes| ("maxmemory", bytes.to_string())));
    settings.extend(options.password.clone().map(|password| ("requirepass", password)));
    let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value));
    settings.chain(options.settings.iter().cloned()).collect()
}

fn program_named(name: &str) -> anyhow::Result<PathBuf> {
    program(Engine::Redis, name)
}
