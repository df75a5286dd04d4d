//! A real Prometheus or Alertmanager, on a port of the system's choice.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) struct Server {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) fn prometheus(program: &Path, folder: &Path) -> Result<Self, String> {
        Self::start(program, folder, &["--config.file=prometheus.yml"], "--storage.tsdb.path")
    }

    pub(crate) fn alertmanager(program: &Path, folder: &Path) -> Result<Self, String> {
        Self::start(program, folder, &["--config.file=alertmanager.yml", "--cluster.listen-address="], "--storage.path")
    }

    /// Waits until it listens; the error is what it said before it ended instead.
    fn start(program: &Path, folder: &Path, arguments: &[&str], data_flag: &str) -> Result<Self, String> {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("{data_flag}={}", data.path().display()))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, address: String::new(), _data: data };
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                return Err(said);
            }
            let listening = line.split_once("msg=\"Listening on\"").and_then(|(_, rest)| rest.split_once(" address="));
            if let Some((_, address)) = listening {
                server.address = address.split_whitespace().next().unwrap().to_owned();
                // It goes on logging, and must not stop at a full pipe.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Ok(server);
            }
            said.push_str(&line);
        }
    }

    /// Alerts for Alertmanager. Labels are `name=value` between spaces.
    pub(crate) fn post(&self, alerts: &[&str]) {
        let annotations =
            json!({"summary": "s", "description": "d", "runbook_url": "r", "dashboard": "d", "panel": "p"});
        let alerts: Vec<Value> =
            alerts.iter().map(|labels| json!({"labels": labels_of(labels), "annotations": annotations})).collect();
        self.call("POST", "/api/v2/alerts", &Value::from(alerts).to_string()).unwrap();
    }

    pub(crate) fn is_muted(&self, labels: &str) -> bool {
        let wanted = labels_of(labels);
        let alerts: Vec<Value> = serde_json::from_str(&self.call("GET", "/api/v2/alerts", "").unwrap()).unwrap();
        let alert = alerts.iter().find(|alert| alert["labels"] == json!(wanted)).unwrap();
        !alert["status"]["inhibitedBy"].as_array().unwrap().is_empty()
    }

    /// Every rule that Prometheus has loaded; None while it is still loading.
    pub(crate) fn rules(&self) -> Option<Vec<Value>> {
        let answer: Value = serde_json::from_str(&self.call("GET", "/api/v1/rules", "").ok()?).ok()?;
        let groups = answer["data"]["groups"].as_array()?;
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        (!rules.is_empty()).then_some(rules)
    }

    /// The body; the whole answer where it is not 200.
    fn call(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        // HTTP/1.0, so that the answer comes whole and the end of the stream is its end.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
            _ => Err(answer),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn labels_of(text: &str) -> BTreeMap<&str, &str> {
    text.split(' ').map(|pair| pair.split_once('=').unwrap()).collect()
}
