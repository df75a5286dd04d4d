//! One tool: where it is installed, its start, and its end.

use crate::separate;
use anyhow::{Context as _, bail};
use attune_runtime::Shutdown;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

const START_LIMIT: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Of what a tool says, this much is written into its log; then it speaks to nobody.
const LOG_LIMIT: u64 = 16 << 20;

/// Where `cargo xtask` keeps tools.
fn folder() -> Option<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = given("ATTUNE_TOOLS").or_else(|| given("HOME").map(|home| home.join(".cache/attune-tools")))?;
    // A tool starts in a folder of its own.
    std::path::absolute(folder).ok()
}

/// In the folder of tools, where what is built has a folder of its own under its version, or in `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = Vec::new();
    if let Some(tools) = folder() {
        let own = format!("{name}-");
        let versions = std::fs::read_dir(&tools).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut versions: Vec<_> = versions
            .filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(&own)))
            .collect();
        versions.sort_unstable();
        folders.push(tools.join("bin"));
        folders.extend(versions.into_iter().rev());
    }
    folders.extend(std::env::split_paths(&path).filter(|folder| folder.is_absolute()));
    let is_program = |file: &Path| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    folders.into_iter().map(|folder| folder.join(name)).find(|file| is_program(file))
}

pub(crate) fn how_to_install(name: &str) -> String {
    let folder =
        folder().map_or_else(|| "$ATTUNE_TOOLS/bin".to_owned(), |tools| tools.join("bin").display().to_string());
    let task = match name {
        // Built from source, in minutes.
        "jaeger" => "check telemetry traces",
        _ => &format!("tools {name}"),
    };
    format!("`cargo xtask {task}` in a checkout does that, or put it into {folder} or a folder of PATH")
}

/// How to know that a tool serves.
pub(super) enum Ready {
    /// It says the address on stderr.
    Says,
    /// It answers 200 at this path, and takes connections at the other address.
    Answers { http: SocketAddr, path: &'static str, also: SocketAddr },
}

pub(super) struct Start<'a> {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    pub(super) folder: &'a Path,
    pub(super) arguments: Vec<String>,
    pub(super) environment: &'a [(&'a str, String)],
}

/// A tool that serves.
pub(super) struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Start<'_> {
    /// The address it serves at.
    pub(super) async fn run(self, ready: Ready) -> anyhow::Result<(String, Running)> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(self.folder).envs(self.environment.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        separate::leash(&mut command);
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let log = self.folder.join("log");
        let mut file = File::create(&log).await.with_context(|| format!("create {}", log.display()))?;
        let stderr = child.stderr.take().with_context(|| format!("read what {} says", self.name))?;
        let mut stderr = BufReader::new(stderr);
        let limit = tokio::time::sleep(START_LIMIT);
        tokio::pin!(limit);
        let mut last = String::new();
        let mut poll = tokio::time::interval(POLL);
        let mut line = Vec::new();
        let address = loop {
            tokio::select! {
                read = stderr.read_until(b'\n', &mut line) => {
                    if read.with_context(|| format!("read what {} says", self.name))? == 0 {
                        let status = child.wait().await.map(|s| s.to_string()).unwrap_or_default();
                        bail!("{} did not start ({status}): {}", self.name, last.trim());
                    }
                    file.write_all(&line).await.with_context(|| format!("write {}", log.display()))?;
                    last = String::from_utf8_lossy(&line).into_owned();
                    if let (Ready::Says, Some(address)) = (&ready, said_address(&last)) {
                        break address;
                    }
                    line.clear();
                }
                _ = poll.tick() => {
                    if let Ready::Answers { http, path, also } = &ready
                        && answers(*http, path).await
                        && TcpStream::connect(also).await.is_ok()
                    {
                        break http.to_string();
                    }
                }
                () = &mut limit => bail!("{} was not ready within {START_LIMIT:?}; see {}", self.name, log.display()),
            }
        };
        tokio::spawn(write_log(stderr, file));
        Ok((address, Running { name: self.name, child, log }))
    }
}

/// Of `... msg="Listening on" component=web address=127.0.0.1:40123`.
fn said_address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("msg=\"Listening on\"")?.1.split_once(" address=")?;
    rest.split_whitespace().next().map(str::to_owned)
}

async fn answers(address: SocketAddr, path: &str) -> bool {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let Ok(request) = Request::get(format!("http://{address}{path}")).body(Empty::new()) else { return false };
    let answer = tokio::time::timeout(Duration::from_secs(1), client.request(request)).await;
    matches!(answer, Ok(Ok(response)) if response.status().is_success())
}

/// Reads to the end in any case: a full pipe would stop the tool.
async fn write_log(stderr: BufReader<ChildStderr>, mut file: File) {
    let mut first = stderr.take(LOG_LIMIT);
    let written = tokio::io::copy(&mut first, &mut file).await;
    let _ = file.flush().await;
    if written.is_ok_and(|bytes| bytes < LOG_LIMIT) {
        return;
    }
    let _ = tokio::io::copy(&mut first.into_inner(), &mut tokio::io::sink()).await;
}

impl Running {
    /// Ends it at `ending`. One that ends by itself is missed, not started again.
    pub(super) async fn until(mut self, ending: Shutdown) {
        tokio::select! {
            status = self.child.wait() => {
                let how = status.map(|s| s.to_string()).unwrap_or_else(|e| e.to_string());
                crate::output::note(&format!("attune: {} ended ({how}); see {}", self.name, self.log.display()));
                return;
            }
            () = ending.wait() => {}
        }
        if let Some(pid) = self.child.id() {
            separate::signal(pid, libc::SIGTERM);
        }
        if tokio::time::timeout(DRAIN, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
