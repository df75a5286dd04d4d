//! A real Alertmanager on a port of the system's choice.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) struct Alertmanager {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl Alertmanager {
    /// Waits until it listens; the error is what it said before it ended instead.
    pub(crate) fn start(program: &Path, config: &Path) -> Result<Self, String> {
        let data = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["--config.file=alertmanager.yml", "--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
            .arg(format!("--storage.path={}", data.path().display()))
            .current_dir(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                child.wait().unwrap();
                return Err(said);
            }
            if let Some((_, rest)) = line.split_once("msg=\"Listening on\" address=") {
                let address = rest.split_whitespace().next().unwrap().to_owned();
                // It goes on logging, and must not stop at a full pipe.
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Ok(Self { child, address, _data: data });
            }
            said.push_str(&line);
        }
    }

    /// Labels are `name=value` between spaces.
    pub(crate) fn post(&self, alerts: &[&str]) {
        let annotations = json!({"summary": "s", "description": "d", "runbook_url": "r", "dashboard": "d", "panel": "p"});
        let alerts: Vec<Value> =
            alerts.iter().map(|labels| json!({"labels": labels_of(labels), "annotations": annotations})).collect();
        self.call("POST", &Value::from(alerts).to_string());
    }

    pub(crate) fn is_muted(&self, labels: &str) -> bool {
        let wanted = labels_of(labels);
        let alerts: Vec<Value> = serde_json::from_str(&self.call("GET", "")).unwrap();
        let alert = alerts.iter().find(|alert| alert["labels"] == json!(wanted)).unwrap();
        !alert["status"]["inhibitedBy"].as_array().unwrap().is_empty()
    }

    fn call(&self, method: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        // HTTP/1.0, so that the answer comes whole and the end of the stream is its end.
        write!(
            stream,
            "{method} /api/v2/alerts HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        body.to_owned()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn labels_of(text: &str) -> BTreeMap<&str, &str> {
    text.split(' ').map(|pair| pair.split_once('=').unwrap()).collect()
}
