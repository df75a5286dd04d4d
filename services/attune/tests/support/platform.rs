//! A real platform: the built program on a small state folder, spoken to over HTTP, ended by signals.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

use attune_runtime::ReservedPort;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub const ITEMS: u32 = 300;
pub const USERS: u32 = 60;
pub const CATEGORIES: [&str; 10] = ["jazz", "rock", "folk", "soul", "punk", "dub", "swing", "opera", "metal", "house"];
const START_LIMIT: Duration = Duration::from_secs(60);

pub fn item(n: u32) -> String {
    format!("i{n}")
}

pub fn category_of(item_id: &str) -> &'static str {
    CATEGORIES[item_id[1..].parse::<usize>().unwrap() % CATEGORIES.len()]
}

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    /// From `ATTUNE_TEST_SEED`, or new for each run; printed either way.
    pub fn of_run() -> Self {
        let seed = match std::env::var_os("ATTUNE_TEST_SEED") {
            Some(seed) => seed.to_str().unwrap().parse().unwrap(),
            None => OffsetDateTime::now_utc().unix_timestamp() as u64,
        };
        println!("ATTUNE_TEST_SEED={seed}");
        Self(seed)
    }

    pub fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

/// Sixty visitors with a hundred clicks each, half of them on one category, on a catalogue of three hundred records.
pub fn write_history(dir: &Path) {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let mut items = String::from("id,title,categories,created_at\n");
    for n in 0..ITEMS {
        let created = now - i64::from(400 - n) * 86_400;
        writeln!(items, "{},Record {n},{},{created}", item(n), CATEGORIES[n as usize % 10]).unwrap();
    }
    let mut events = String::from("user_id,item_id,type,occurred_at\n");
    let mut rng = Rng(1);
    for user in 0..USERS {
        for step in 0..100 {
            let category = if rng.next(2) == 0 { user % 10 } else { rng.next(10) as u32 };
            let clicked = rng.next(30) as u32 * 10 + category;
            let at = now - 5 * 86_400 - i64::from(user) * 1_000 + step * 60;
            writeln!(events, "u{user},{},click,{at}", item(clicked)).unwrap();
        }
    }
    fs::write(dir.join("items.csv"), items).unwrap();
    fs::write(dir.join("events.csv"), events).unwrap();
}

/// A filled and trained state folder of this test's own. The first one of a test binary is made from the history,
/// the others are copies.
pub fn state() -> TempDir {
    static FILLED: OnceLock<PathBuf> = OnceLock::new();
    let filled = FILLED.get_or_init(|| {
        let program = std::env::current_exe().unwrap();
        let name = program.file_stem().unwrap().to_string_lossy().into_owned();
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        let (data, state) = (root.join("history"), root.join("state"));
        fs::create_dir_all(&data).unwrap();
        write_history(&data);
        let platform = Platform::spawn(&state, &["--data", data.to_str().unwrap()]).unwrap();
        assert!(platform.interrupt().success());
        state
    });
    let dir = tempfile::tempdir().unwrap();
    copy(filled, &dir.path().join("state"));
    dir
}

pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}

pub fn attune() -> Command {
    Command::new(env!("CARGO_BIN_EXE_attune"))
}

pub fn signal(pid: u32, signal: i32) {
    #[expect(unsafe_code, reason = "std has no way to send a signal")]
    // SAFETY: kill has no memory effects.
    let sent = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(sent, 0, "signal {signal} to {pid}");
}

/// Stops a process, and gives back once none of its threads runs.
pub fn freeze(pid: u32) {
    signal(pid, libc::SIGSTOP);
    // The state follows the name, which stands in brackets.
    let runs = |stat: String| stat.rsplit(')').next().unwrap().trim_start().starts_with(['R', 'S', 'D']);
    let tasks = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path());
    while tasks().any(|task| std::fs::read_to_string(task.join("stat")).is_ok_and(runs)) {
        std::thread::yield_now();
    }
}

/// A running `attune up`; it and its services are killed with the value.
pub struct Platform {
    child: Child,
    pub state: PathBuf,
    pub ready: Value,
    pub edge: Site,
    pub admin: Site,
}

/// A process beside the platform's own; told to end with the value.
pub struct Second {
    child: Child,
    pub admin: Site,
    _ports: [ReservedPort; 2],
}

impl Second {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            signal(self.pid(), libc::SIGTERM);
            self.child.wait().unwrap();
        }
    }
}

/// One server, by its address.
#[derive(Clone)]
pub struct Site {
    pub address: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Item ids of a page.
    pub fn items(&self) -> Vec<String> {
        let page = self.json();
        page["items"].as_array().unwrap().iter().map(|i| i["item_id"].as_str().unwrap().to_owned()).collect()
    }
}

impl Site {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub fn host(&self) -> &str {
        self.address.strip_prefix("http://").unwrap()
    }

    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await;
        let (head, body) = response.map_err(|e| format!("{e:?}"))?.into_parts();
        let body = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).await.unwrap()
    }

    pub async fn try_post(&self, path: &str, body: &Value) -> Result<Answer, String> {
        self.try_send(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], "").await
    }

    /// A page of ten for a visitor at home.
    pub async fn page(&self, user: &str) -> Answer {
        let answer = self.post("/v1/personalize", &json!({"user_id": user, "limit": 10})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }
}

pub fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap()
}

pub fn event(id: &str, kind: &str, user: &str, item: &str) -> Value {
    json!({"event_id": id, "type": kind, "user_id": user, "item_id": item, "occurred_at": now()})
}

impl Platform {
    /// Starts on a folder that [`state`] gave.
    pub fn start(dir: &TempDir, args: &[&str]) -> Self {
        Self::spawn(&dir.path().join("state"), args).unwrap()
    }

    /// What it printed on stderr, where it did not get ready.
    pub fn spawn(state: &Path, args: &[&str]) -> Result<Self, String> {
        Self::spawn_by(attune(), state, args)
    }

    /// `command` ends with the program.
    pub fn spawn_by(mut command: Command, state: &Path, args: &[&str]) -> Result<Self, String> {
        let mut child = command
            .arg("up")
            .args(["--state", state.to_str().unwrap(), "--listen", "127.0.0.1:0", "--json"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let noted = std::thread::spawn(move || {
            let mut all = String::new();
            for line in stderr.lines().map_while(Result::ok) {
                eprintln!("  up: {line}");
                all.push_str(&line);
                all.push('\n');
            }
            all
        });
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let Ok(line) = receive.recv_timeout(START_LIMIT) else {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(noted.join().unwrap());
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready");
        Ok(Self {
            child,
            state: state.to_owned(),
            edge: Site::new(ready["edge"].as_str().unwrap()),
            admin: Site::new(ready["admin"]["edge"].as_str().unwrap()),
            ready,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Pid of a service's process, of the one that runs now.
    pub fn pid_of(&self, service: &str) -> Option<u32> {
        children(self.pid()).into_iter().find(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = line.split(|b| *b == 0);
            arguments.any(|a| a == b"service") && arguments.next() == Some(service.as_bytes())
        })
    }

    /// Another process of a service, as the one that runs now but for ports, files, and what is set here. None while it does
    /// not run.
    pub fn second(&self, service: &str, set: &[(&str, &str)]) -> Option<Second> {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid_of(service)?)).ok()?;
        let arguments: Vec<_> =
            line.split(|b| *b == 0).skip(1).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
        let [admin, grpc] = [(); 2].map(|()| ReservedPort::reserve(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap());
        let file = |kind: &str| self.state.join(kind).join(format!("{service}-1")).display().to_string();
        let mut command = attune();
        command.args(arguments.iter().take_while(|argument| !argument.is_empty()));
        let own = [
            ("process.instance", format!("{service}-1")),
            ("process.admin", admin.address().to_string()),
            ("process.grpc.listen", grpc.address().to_string()),
            ("process.telemetry.traces", file("traces")),
            ("process.telemetry.logs.file", file("logs")),
        ];
        for (key, value) in own {
            command.args(["--set", &format!("{key}={value}")]);
        }
        for (key, value) in set {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Some(Second { child, admin: Site::new(&format!("http://{}", admin.address())), _ports: [admin, grpc] })
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it without a warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ctrl-C, and the end.
    pub fn interrupt(mut self) -> ExitStatus {
        signal(self.pid(), libc::SIGINT);
        self.child.wait().unwrap()
    }

    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

/// Everything in a state folder's logs and traces.
pub fn written(state: &Path) -> String {
    let mut all = String::new();
    for folder in ["logs", "traces"] {
        for entry in fs::read_dir(state.join(folder)).unwrap() {
            all.push_str(&fs::read_to_string(entry.unwrap().path()).unwrap());
        }
    }
    all
}

impl Drop for Platform {
    fn drop(&mut self) {
        let services = children(self.pid());
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
        // They end with their launcher, unless they are stopped.
        for pid in services.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            signal(pid, libc::SIGCONT);
        }
    }
}

/// Processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut fields = after_name.split(' ');
        fields.next() != Some("Z") && fields.next() == Some(&parent.to_string())
    })
    .collect()
}
