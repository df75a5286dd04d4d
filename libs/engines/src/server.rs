//! A server with a folder, that can be killed and started again.

use crate::supervised::Supervised;
use anyhow::{Context as _, bail};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// Of a log, in an error.
const LAST_LINES: usize = 40;

#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    command: Vec<String>,
    // Before the folder, so that it ends before its files do.
    process: Option<Supervised>,
    folder: tempfile::TempDir,
}

impl Server {
    /// With an empty folder; nothing runs yet.
    pub(crate) fn new(name: &'static str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix(&format!("{name}.")).tempdir();
        let folder = folder.with_context(|| format!("create a folder for {name}"))?;
        fs::create_dir(folder.path().join("data")).with_context(|| format!("create a folder for {name}"))?;
        Ok(Self { name, command: Vec::new(), process: None, folder })
    }

    pub(crate) fn set_command(&mut self, command: Vec<String>) {
        self.command = command;
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder().join("log")
    }

    pub(crate) fn launch(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        let process = Supervised::start(&self.command, self.folder(), &self.log());
        self.process = Some(process.with_context(|| format!("start {}", self.name))?);
        Ok(())
    }

    /// Until `is_ready`, or until there is no hope.
    pub(crate) fn wait_until(&self, is_ready: impl Fn() -> bool) -> anyhow::Result<()> {
        let start = Instant::now();
        while !is_ready() {
            if !self.is_running() {
                bail!("{} ended while it was starting; the end of its log:\n{}", self.name, self.end_of_log());
            }
            if start.elapsed() > PATIENCE {
                bail!("{} is not ready after {PATIENCE:?}; the end of its log:\n{}", self.name, self.end_of_log());
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(process) => process.kill().with_context(|| format!("kill {}", self.name)),
            None => Ok(()),
        }
    }

    pub(crate) fn stop_gracefully(&mut self) -> anyhow::Result<()> {
        self.running()?.signal(Signal::TERM).with_context(|| format!("stop {}", self.name))?;
        let start = Instant::now();
        while self.is_running() {
            if start.elapsed() > PATIENCE {
                bail!("{} has not ended after {PATIENCE:?}; the end of its log:\n{}", self.name, self.end_of_log());
            }
            thread::sleep(PAUSE);
        }
        self.kill()
    }

    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.running()?.pause().with_context(|| format!("pause {}", self.name))
    }

    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.running()?.signal(Signal::CONT).with_context(|| format!("resume {}", self.name))
    }

    fn running(&self) -> anyhow::Result<&Supervised> {
        self.process.as_ref().with_context(|| format!("{} was not started, or killed", self.name))
    }

    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        let data = self.data();
        fs::remove_dir_all(&data)
            .and_then(|()| fs::create_dir(&data))
            .with_context(|| format!("empty {}", data.display()))
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Supervised::id)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(Supervised::is_running)
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}
