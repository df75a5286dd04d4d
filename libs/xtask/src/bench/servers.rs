//! The servers of a run, each pinned to core 0 and ended with the run.

use super::load::Loaded;
use super::metrics;
use super::workload::OPEN_CONNECTIONS;
use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Kernel clock ticks in a second of `/proc/PID/stat`: the value of every Linux build there is.
const TICKS: f64 = 100.0;
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const START: Duration = Duration::from_secs(120);

/// A server process of ours.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// CPU seconds of the process and its children so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let mut ticks = 0.0;
        for pid in self.pids()? {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a server's CPU time")?;
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            for field in [11, 12] {
                ticks +=
                    fields.get(field).and_then(|text| text.parse::<f64>().ok()).context("read a server's CPU time")?;
            }
        }
        Ok(ticks / TICKS)
    }

    /// Megabytes resident now.
    pub(crate) fn resident_mb(&self) -> anyhow::Result<f64> {
        let mut kilobytes = 0.0;
        for pid in self.pids()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read a server's memory")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("read a server's memory")?;
            kilobytes += line.trim().trim_end_matches(" kB").parse::<f64>().context("read a server's memory")?;
        }
        Ok(kilobytes / 1024.0)
    }

    fn pids(&self) -> anyhow::Result<Vec<u32>> {
        let own = self.child.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        Ok(std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect())
    }

    /// Waits until the server has finished what its answers left behind, and gives its CPU seconds then.
    pub(crate) fn settled_cpu(&self) -> anyhow::Result<f64> {
        let mut last = self.cpu()?;
        for _ in 0..100 {
            std::thread::sleep(Duration::from_millis(150));
            let now = self.cpu()?;
            if now - last <= 1.0 / TICKS {
                return Ok(now);
            }
            last = now;
        }
        bail!("a server did not come to rest within 15 seconds of its load")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its own id and politely, so that nginx takes its workers along and attune closes its stores.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().is_ok_and(|status| status.success());
        let until = Instant::now() + Duration::from_secs(15);
        while asked && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill().and_then(|()| self.child.wait().map(drop));
    }
}

fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program).stdin(Stdio::null());
    command
}

fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("find this program")
}

/// The first line a server prints.
fn first_line(child: &mut Child) -> anyhow::Result<String> {
    let stdout = child.stdout.take().context("read a server's first line")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("read a server's first line")?;
    if line.is_empty() {
        bail!("a server ended before it was ready; its complaint is above");
    }
    Ok(line.trim().to_owned())
}

/// The platform, in one process, and the address of its metrics. `more` are further arguments of `attune up`.
pub(crate) fn attune(program: &Path, state: &Path, more: &[&OsStr]) -> anyhow::Result<(Server, String)> {
    let mut child = pinned(SERVER_CORE, program)
        .arg("up")
        .arg("--state")
        .arg(state)
        .args(["--listen", "127.0.0.1:0", "--json"])
        .args(more)
        .stdout(Stdio::piped())
        .spawn()
        .context("start taskset with attune (taskset comes with util-linux)")?;
    let line = first_line(&mut child)?;
    let mut server = Server { child, address: String::new() };
    let ready: serde_json::Value =
        serde_json::from_str(&line).with_context(|| format!("read the ready line {line}"))?;
    let host = |value: &serde_json::Value| value.as_str().map(|url| url.trim_start_matches("http://").to_owned());
    server.address = host(&ready["edge"]).context("the ready line names no edge")?;
    let admin = host(&ready["admin"]["edge"]).context("the ready line names no admin address")?;
    Ok((server, admin))
}

pub(crate) fn constant(answer: &Path) -> anyhow::Result<Server> {
    let mut child = pinned(SERVER_CORE, &own_program()?)
        .args(["bench", "constant", "--answer"])
        .arg(answer)
        .stdout(Stdio::piped())
        .spawn()
        .context("start the constant server")?;
    let address = first_line(&mut child)?;
    Ok(Server { child, address })
}

/// nginx with a proxy cache in `dir`, in front of `upstream`.
pub(crate) fn nginx(program: &Path, dir: &Path, upstream: &str) -> anyhow::Result<Server> {
    fs::create_dir_all(dir.join("cache"))?;
    // Started by root, nginx works as somebody else, who must get in.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let address = format!("127.0.0.1:{port}");
    let config = include_str!("nginx.conf")
        .replace("@DIR@", &dir.to_string_lossy())
        .replace("@LISTEN@", &address)
        .replace("@UPSTREAM@", upstream);
    let path = dir.join("nginx.conf");
    fs::write(&path, config)?;
    let child = pinned(SERVER_CORE, program)
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(&path)
        .arg("-e")
        .arg(dir.join("error.log"))
        .stdout(Stdio::null())
        .spawn()
        .context("start nginx")?;
    let mut server = Server { child, address };
    let until = Instant::now() + START;
    while std::net::TcpStream::connect(&server.address).is_err() {
        if !matches!(server.child.try_wait(), Ok(None)) || Instant::now() > until {
            bail!("nginx did not start: {}", fs::read_to_string(dir.join("error.log")).unwrap_or_default().trim());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// nginx from the system's packages.
pub(crate) fn find_nginx() -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join("nginx"))
        .find(|file| file.is_file())
        .context("nginx is missing: install it (Debian, Ubuntu: apt-get install --no-install-recommends nginx-light)")
}

/// How a load is put on a server.
pub(crate) struct Load<'a> {
    pub(crate) requests: &'a Path,
    pub(crate) connections: usize,
    pub(crate) seconds: f64,
    pub(crate) rate: Option<f64>,
}

impl Load<'_> {
    /// What it comes to, and the server's CPU seconds for it and for what it leaves behind.
    pub(crate) fn cost(&self, server: &Server) -> anyhow::Result<(Loaded, f64)> {
        let before = server.settled_cpu()?;
        let loaded = self.put_on(&server.address)?;
        Ok((loaded, server.settled_cpu()? - before))
    }

    /// The same requests, so many a second.
    pub(crate) fn at_rate(&self, rate: f64, server: &Server) -> anyhow::Result<Loaded> {
        server.settled_cpu()?;
        Load { rate: Some(rate), connections: OPEN_CONNECTIONS, ..*self }.put_on(&server.address)
    }

    /// Puts the load on from core 1.
    pub(crate) fn put_on(&self, address: &str) -> anyhow::Result<Loaded> {
        let mut command = pinned(LOAD_CORE, &own_program()?);
        command.args(["bench", "load", "--address", address, "--requests"]).arg(self.requests).args([
            "--connections",
            &self.connections.to_string(),
            "--seconds",
            &self.seconds.to_string(),
        ]);
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        let output = command.stderr(Stdio::inherit()).output().context("start the load generator")?;
        if !output.status.success() {
            bail!("the load generator failed against {address}");
        }
        let loaded: Loaded = serde_json::from_slice(&output.stdout).context("read what the load came to")?;
        if loaded.refused > 0 || loaded.answers == 0 {
            bail!("{} of {} answers of {address} were not 200", loaded.refused, loaded.answers);
        }
        Ok(loaded)
    }
}

/// One answer as it comes over the wire.
pub(crate) fn capture(address: &str, request: &str) -> anyhow::Result<Vec<u8>> {
    let answer = metrics::ask(address, request)?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("{address} answered {}", String::from_utf8_lossy(&answer).lines().next().unwrap_or("nothing"));
    }
    Ok(answer)
}
