//! The log pipeline's SQL on a real Flink: planned for Kafka, OpenSearch and Parquet with their connectors, then run twice on
//! every golden line, some of them repeated, and on lines that are none, into a real OpenSearch under our index template.

use super::process::{Server, ask, free_addresses, said};
use crate::tools::go::fnv;
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What Flink reaches into, which Java 17 closes.
const OPENED: [&str; 9] =
    ["util", "lang", "nio", "net", "text", "time", "util.concurrent", "lang.reflect", "lang.invoke"];

struct Flink {
    folder: PathBuf,
    jars: PathBuf,
}

/// The jars that a list names, by Maven.
fn jars(list: &Path, tools: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let text = fs::read(list).with_context(|| format!("read {}", list.display()))?;
    // Another list is another folder.
    let jars = tools.join(format!("{name}-{:016x}", fnv(&text)));
    if !jars.exists() {
        let fresh = jars.with_extension("loading");
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(list).arg("dependency:copy-dependencies");
        maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", fresh.display()));
        said(&mut maven, "load jars with Maven")?;
        fs::rename(&fresh, &jars).context("move jars into place")?;
    }
    Ok(jars)
}

impl Flink {
    fn find(root: &Path, tools: &Path) -> anyhow::Result<Self> {
        let folder = root.join("observability/flink");
        let jars = jars(&folder.join("pom.xml"), tools, "flink")?;
        Ok(Self { folder, jars })
    }

    fn run(&self, values: &[(&str, &str)], files: &[PathBuf]) -> anyhow::Result<String> {
        let mut java = Command::new("timeout");
        java.args(["300", "java"])
            .args(OPENED.map(|package| format!("--add-opens=java.base/java.{package}=ALL-UNNAMED")));
        java.args([
            "-Xmx1g",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        ]);
        java.arg("-cp").arg(self.jars.join("*")).arg(self.folder.join("Run.java"));
        java.args(values.iter().map(|(name, value)| format!("{name}={value}"))).args(files);
        said(&mut java, "run Flink")
    }

    fn sql(&self, name: &str) -> PathBuf {
        self.folder.join("sql").join(name)
    }
}

pub(super) fn check(root: &Path, tools: &Path) -> anyhow::Result<()> {
    let flink = Flink::find(root, tools)?;
    let work = tempfile::tempdir().context("create a folder")?;
    plan(&flink, work.path())?;
    println!("flink: the job is planned for Kafka, OpenSearch and Parquet");
    let index = Index::start(root, tools, work.path())?;
    for round in ["once", "and again"] {
        println!("flink: {round}: {}", execute(&flink, root, work.path(), &index)?);
    }
    Ok(())
}

fn plan(flink: &Flink, work: &Path) -> anyhow::Result<()> {
    let job = fs::read_to_string(flink.sql("40-job.sql")).context("read the job")?;
    let explain = work.join("explain.sql");
    fs::write(&explain, job.replace("EXECUTE STATEMENT SET", "EXPLAIN STATEMENT SET")).context("write the job")?;
    let logs = format!("file://{}/planned", work.display());
    let values = [
        ("ATTUNE_KAFKA", "127.0.0.1:9"),
        ("ATTUNE_OPENSEARCH", "http://127.0.0.1:9"),
        ("ATTUNE_LOGS", logs.as_str()),
        ("ATTUNE_REGION", "here"),
        ("ATTUNE_DEPLOYMENT", "check"),
    ];
    let views = ["00-settings.sql", "10-tables.sql", "20-checked.sql", "30-lines.sql"].map(|name| flink.sql(name));
    let plan = flink.run(&values, &[&views[..], &[explain]].concat())?;
    for sink in ["hot", "cold", "dead"] {
        ensure!(
            plan.contains(&format!("Sink(table=[default_catalog.default_database.{sink}]")),
            "the plan has no {sink}:\n{plan}"
        );
    }
    Ok(())
}

/// An OpenSearch with the template and the first index.
struct Index {
    address: String,
    _node: Server,
}

impl Index {
    fn start(root: &Path, tools: &Path, work: &Path) -> anyhow::Result<Self> {
        let folder = root.join("observability/opensearch");
        let jars = jars(&folder.join("pom.xml"), tools, "opensearch")?;
        let [address] = free_addresses()?;
        let home = work.join("opensearch");
        fs::create_dir_all(home.join("config")).context("create a folder for OpenSearch")?;
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.disable.jmx=true", "-cp"]);
        java.arg(jars.join("*")).arg(folder.join("CheckNode.java")).arg(&home);
        java.arg(address.rsplit(':').next().unwrap_or_default()).stdout(Stdio::null());
        let mut node = Server::start("OpenSearch", &mut java, &work.join("opensearch.log"))?;
        node.wait_for(&address, Duration::from_secs(120))?;
        let index = Self { address, _node: node };

        let read = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("read {name}"));
        let mut template: Value = serde_json::from_str(&read("index-template.json")?).context("read the template")?;
        // The setting of a plugin that is not there.
        let settings = template["template"]["settings"].as_object_mut().context("the template has no settings")?;
        settings.remove("plugins.index_state_management.rollover_alias").context("the template names no alias")?;
        index.put("/_index_template/attune-logs", &template.to_string())?;
        index.put("/attune-logs-000001", &read("first-index.json")?)?;
        let (status, answer) = ask(&index.address, "PUT", "/attune-logs/_doc/x", r#"{"user_id":"u42"}"#)?;
        ensure!(
            status == 400 && answer.contains("strict_dynamic_mapping_exception"),
            "an unknown field: {status} {answer}"
        );
        Ok(index)
    }

    fn put(&self, path: &str, body: &str) -> anyhow::Result<()> {
        let (status, answer) = ask(&self.address, "PUT", path, body)?;
        ensure!(status == 200, "OpenSearch answered {status} to {path}: {answer}");
        Ok(())
    }

    /// Every document, once those written are visible.
    fn documents(&self) -> anyhow::Result<Vec<Value>> {
        let (status, _) = ask(&self.address, "POST", "/attune-logs/_refresh", "")?;
        ensure!(status == 200, "OpenSearch answered {status} to a refresh");
        let (status, answer) = ask(&self.address, "GET", "/attune-logs/_search?size=1000", "")?;
        ensure!(status == 200, "OpenSearch answered {status} to a search: {answer}");
        let mut answer: Value = serde_json::from_str(&answer).context("read OpenSearch's answer")?;
        let hits = answer["hits"]["hits"].as_array_mut().context("OpenSearch gave no hits")?;
        hits.iter_mut()
            .map(|hit| {
                let line = hit["_source"].take();
                let id = format!(
                    "{}/{}/{}",
                    line["instance"].as_str().unwrap_or_default(),
                    line["boot_id"].as_str().unwrap_or_default(),
                    line["seq"]
                );
                ensure!(hit["_id"] == id.as_str(), "{} is the id of {id}", hit["_id"]);
                Ok(line)
            })
            .collect()
    }
}

/// Runs the job. Gives what came out, in words.
fn execute(flink: &Flink, root: &Path, work: &Path, index: &Index) -> anyhow::Result<String> {
    let golden = root.join("libs/telemetry/tests/golden/log-lines.jsonl");
    let golden = fs::read_to_string(&golden).with_context(|| format!("read {}", golden.display()))?;
    let lines: Vec<&str> = golden.lines().collect();
    let first = lines.first().context("there is no golden line")?;
    let deployed = lines.iter().find(|line| line.contains("model_deployed")).context("there is no line of a model")?;
    let card = deployed.replace("425d6ab799911cc0", "4111-1111-1111-1111").replace("\"seq\":", "\"seq\":9");
    let refused = [
        "not a line".to_owned(),
        first.replace("\"sampled_weight\"", "\"user_id\":\"u42\",\"sampled_weight\""),
        first.replace("\"mobile\"", "\"my phone\""),
        card,
    ];
    // The model first, so that every line that follows it has a release; then all lines, some again, and the wrong ones.
    let arrived = [deployed].into_iter().chain(&lines).chain(&lines[..3]).map(|line| (*line).to_owned()).chain(refused);
    let mut input = String::new();
    for (offset, line) in arrived.enumerate() {
        let at = format!("2026-01-29T10:30:{offset:02}Z");
        input +=
            &json!({"line": line, "arrived_at": at, "topic": "logs.app", "partition": 0, "offset": offset}).to_string();
        input.push('\n');
    }
    let place = |name: &str| work.join(name);
    if place("out").exists() {
        fs::remove_dir_all(place("out")).context("empty a folder")?;
    }
    fs::create_dir_all(place("in"))
        .and_then(|()| fs::write(place("in").join("lines.jsonl"), input))
        .context("write the lines")?;
    let url = |name: &str| format!("file://{}", place(name).display());
    let (arrived, out, logs) = (url("in"), url("out"), url("out/cold"));
    let opensearch = format!("http://{}", index.address);
    let values = [
        ("ATTUNE_ARRIVED", arrived.as_str()),
        ("ATTUNE_OPENSEARCH", opensearch.as_str()),
        ("ATTUNE_OUT", out.as_str()),
        ("ATTUNE_LOGS", logs.as_str()),
        ("ATTUNE_REGION", "here"),
        ("ATTUNE_DEPLOYMENT", "check"),
    ];
    let files = ["sql/00-settings.sql", "check/tables.sql", "sql/20-checked.sql", "sql/30-lines.sql", "sql/40-job.sql"];
    flink.run(&values, &files.map(|file| flink.folder.join(file)))?;

    let hot = index.documents()?;
    let names: BTreeSet<String> = hot.iter().map(|line| line["seq"].to_string()).collect();
    ensure!(
        hot.len() == lines.len() && names.len() == lines.len(),
        "{} lines of {} came through, {} of them different",
        hot.len(),
        lines.len(),
        names.len()
    );
    for line in &lines {
        let want: Value = serde_json::from_str(line).context("read a golden line")?;
        let got = hot.iter().find(|got| got["seq"] == want["seq"]).with_context(|| format!("lost {line}"))?;
        same(got, &want).with_context(|| format!("{got}\nis not\n{line}"))?;
    }
    let dead = documents(&place("out/dead"))?;
    let mut reasons: Vec<_> = dead.iter().filter_map(|dead| dead["reason"].as_str()).collect();
    reasons.sort_unstable();
    ensure!(reasons == ["invalid", "invalid", "invalid", "scrubbed"], "refused: {reasons:?}");
    ensure!(dead.iter().all(|dead| !dead.to_string().contains("u42")), "a refused line is quoted");
    let parts = files_below(&place("out/cold"))?;
    let sound =
        |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    ensure!(!parts.is_empty() && parts.iter().all(sound), "the cold files are not whole: {parts:?}");
    Ok(format!("{} documents, {} lines refused, {} Parquet files", hot.len(), dead.len(), parts.len()))
}

/// A document is its line, with what the job adds.
fn same(got: &Value, want: &Value) -> anyhow::Result<()> {
    let mut got = got.clone();
    for (added, value) in [("region", "here"), ("deployment", "check"), ("model_release", "425d6ab799911cc0")] {
        ensure!(got[added] == value, "{added} is {}", got[added]);
        got.as_object_mut().context("not a document")?.remove(added);
    }
    for (key, want) in want.as_object().context("not a line")? {
        let (Some(want), Some(got)) = (want.as_object(), got[key].as_object()) else {
            ensure!(alike(&got[key], want), "{key} is {}", got[key]);
            continue;
        };
        ensure!(want.len() == got.len() && want.iter().all(|(name, want)| alike(&got[name], want)), "{key} is {got:?}");
    }
    Ok(())
}

/// 3 and 3.0 are one number.
fn alike(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some_and(|number| other.as_f64() == Some(number))
}

fn documents(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for file in files_below(folder)? {
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        for line in text.lines() {
            found.push(serde_json::from_str(line).with_context(|| format!("read {line}"))?);
        }
    }
    Ok(found)
}

fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("look into {}", folder.display()))? {
            let path = entry.context("look into a folder")?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    if found.is_empty() {
        bail!("nothing was written to {}", folder.display());
    }
    Ok(found)
}
