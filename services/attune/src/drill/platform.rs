//! A platform of the drill's own: this program's `up`, as a process that can be watched, frozen and ended.

use crate::separate::{self, leash};
use anyhow::{Context as _, bail};
use attune_runtime::{Exit, OrExit as _};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const START_LIMIT: Duration = Duration::from_secs(240);
const DRAIN: Duration = Duration::from_secs(40);

/// The line that `up --json` prints, and `run.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Ready {
    pub(crate) edge: String,
    pub(crate) admin: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) pids: BTreeMap<String, u32>,
}

impl Ready {
    /// Jobs of the kit and what they scrape. Without pids one process answers for all services.
    pub(crate) fn targets(&self) -> BTreeMap<&str, &str> {
        self.admin
            .iter()
            .map(|(service, address)| {
                let job = if self.pids.is_empty() { "attune" } else { service.as_str() };
                (job, address.trim_start_matches("http://"))
            })
            .collect()
    }
}

pub(crate) struct Platform {
    pub(crate) ready: Ready,
    pub(crate) state: PathBuf,
    child: Child,
}

impl Platform {
    /// Waits until it serves; an empty folder is filled first.
    pub(crate) async fn start(state: &Path, seed: u64, settings: &str, arguments: &[String]) -> anyhow::Result<Self> {
        let config = state.with_extension("toml");
        std::fs::write(&config, settings).context("write the drill's settings")?;
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.args(["up", "--listen", "127.0.0.1:0", "--json", "--seed", &seed.to_string(), "--state"]).arg(state);
        command.arg("--config").arg(&config).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        leash(&mut command);
        let mut child = command.spawn().context("start a platform")?;
        let said = tokio::spawn(last_words(child.stderr.take().context("read what the platform says")?));
        let mut lines = BufReader::new(child.stdout.take().context("read the platform's address")?).lines();
        let first = tokio::time::timeout(START_LIMIT, lines.next_line()).await;
        let Some(line) =
            first.context("the platform was not ready in time").or_exit(Exit::TryLater)?.context("read")?
        else {
            let status = child.wait().await.context("wait for the platform")?;
            let said = said.await.unwrap_or_default();
            let exit = status.code().and_then(Exit::from_code).unwrap_or(Exit::Internal);
            return Err(anyhow::anyhow!("the platform did not start: {said}")).or_exit(exit);
        };
        let ready = serde_json::from_str(&line).context("read the platform's address")?;
        Ok(Self { ready, state: state.to_owned(), child })
    }

    pub(crate) fn admin(&self) -> anyhow::Result<&str> {
        Ok(self.ready.admin.get("edge").context("find the operators' address")?)
    }

    /// The process of a service of a platform whose services are processes.
    pub(crate) fn process(&self, service: &str) -> anyhow::Result<Process> {
        let pid = *self.ready.pids.get(service).with_context(|| format!("find the process of {service}"))?;
        Ok(Process { pid })
    }

    /// Ends it in order; true where it said that all went well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<bool> {
        let Some(pid) = self.child.id() else { bail!("the platform has ended") };
        separate::signal(pid, libc::SIGINT);
        let status = tokio::time::timeout(DRAIN, self.child.wait()).await;
        Ok(status.context("the platform did not end")?.context("wait for the platform")?.success())
    }
}

/// The newest line, for a start that fails; read to the end, because a full pipe would stop the platform.
async fn last_words(stderr: tokio::process::ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        last = line;
    }
    last.trim_start_matches("attune: ").to_owned()
}

/// A process that can be held still. It runs again when this is dropped, whatever happened meanwhile.
pub(crate) struct Process {
    pub(crate) pid: u32,
}

impl Process {
    pub(crate) fn freeze(&self) {
        separate::signal(self.pid, libc::SIGSTOP);
    }

    pub(crate) fn thaw(&self) {
        separate::signal(self.pid, libc::SIGCONT);
    }

    /// As in `/proc`: `T` is stopped.
    pub(crate) fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.thaw();
    }
}
