//! Processes that end with the check, and speaking to them.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs to its end; what it says is in the error when it fails.
pub(crate) fn said(command: &mut Command, what: &str) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{what}: start {:?}", command.get_program()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let all = text(&output.stdout) + &text(&output.stderr);
        let lines: Vec<_> = all.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
        bail!("{what}:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
    }
    Ok(text(&output.stdout))
}

/// A server that is told to end with the value, and killed when it does not.
pub(crate) struct Server {
    child: Child,
    name: &'static str,
}

impl Server {
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = std::fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child = command.stdin(Stdio::null()).stderr(output).spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { child, name })
    }

    /// Waits until somebody listens there.
    pub(crate) fn wait_for(&mut self, address: &str, limit: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + limit;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait().context("look after a server")? {
                bail!("{} ended before it was ready: {status}", self.name);
            }
            if Instant::now() > until {
                bail!("{} did not listen on {address} within {limit:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().is_ok_and(|status| status.success());
        let until = Instant::now() + Duration::from_secs(20);
        while asked && Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ended = self.child.kill().and_then(|()| self.child.wait().map(drop));
    }
}

/// The program as it is now, unless one was named.
pub(crate) fn attune(root: &Path, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return named.canonicalize().with_context(|| format!("find {}", named.display()));
    }
    let mut build = Command::new("cargo");
    said(build.current_dir(root).args(["build", "--release", "--package", "attune"]), "build attune")?;
    Ok(root.join("target/release/attune"))
}

/// A platform of seven processes with its state in `work`, and its ready line.
pub(crate) fn platform(attune: &Path, work: &Path, more: &[&OsStr]) -> anyhow::Result<(Server, Value)> {
    let mut command = Command::new(attune);
    command
        .args(["up", "--separate", "--json", "--listen", "127.0.0.1:0", "--state"])
        .arg(work.join("state"))
        .args(more);
    ready(&mut command, &work.join("attune.log"))
}

/// What `attune up --json` starts, once it is ready, and its ready line.
pub(super) fn ready(command: &mut Command, log: &Path) -> anyhow::Result<(Server, Value)> {
    let mut platform = Server::start("attune", command.stdout(Stdio::piped()), log)?;
    let mut line = String::new();
    BufReader::new(platform.child.stdout.take().context("read attune's ready line")?)
        .read_line(&mut line)
        .context("read attune's ready line")?;
    if line.is_empty() {
        bail!("attune was not ready: {}", std::fs::read_to_string(log).unwrap_or_default());
    }
    Ok((platform, serde_json::from_str(&line).context("read attune's ready line")?))
}

/// Addresses that are free now, no two the same.
pub(crate) fn free_addresses<const N: usize>() -> anyhow::Result<[String; N]> {
    let listeners: Vec<_> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("find free ports")?;
    let mut addresses = [const { String::new() }; N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        *address = listener.local_addr().context("find a free port")?.to_string();
    }
    Ok(addresses)
}

/// One request over a connection of its own: status and body.
pub(crate) fn ask(address: &str, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).context("set a timeout")?;
    let length = body.len();
    // HTTP/1.0, so that the end of the body is the end of the connection.
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .context("send a request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(|| format!("read the answer to {method} {path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("{address} did not answer in HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("read a status line")?;
    Ok((status, body.to_owned()))
}
