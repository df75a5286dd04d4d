//! The log pipeline's configuration against the list of events: what takes lines on their way names exactly the fields, events and
//! topics that there are. Needs no tool; `cargo xtask check telemetry` runs the real ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use attune_telemetry::{EVENTS, Stream, log_line_pattern, log_schema};
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

fn read(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../observability").join(path);
    fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn json(path: &str) -> Value {
    serde_json::from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn golden() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-lines.jsonl")).unwrap()
}

/// `metrics.latency_ms`, `level`, ...: every field of a line, the objects' ones by path.
fn fields(properties: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, field) in properties.as_object().unwrap() {
        match field.get("properties") {
            Some(inner) => found.extend(fields(inner).into_iter().map(|inner| format!("{name}.{inner}"))),
            None => drop(found.insert(name.clone())),
        }
    }
    found
}

/// What the job adds to a line.
const ADDED: [&str; 3] = ["region", "deployment", "model_release"];

fn wanted() -> BTreeSet<String> {
    fields(&log_schema()["properties"]).into_iter().chain(ADDED.map(str::to_owned)).collect()
}

#[test]
fn the_pattern_takes_every_golden_line_and_nothing_else() {
    let pattern = Regex::new(&log_line_pattern()).unwrap();
    for line in golden().lines() {
        assert!(pattern.is_match(line), "{line}");
        for (from, to) in [
            ("\"event\":\"", "\"event\":\"un"),
            ("\"sampled_weight\"", "\"user_id\":\"u42\",\"sampled_weight\""),
            ("\"context\":{", "\"context\":{\"item_id\":\"318\","),
            ("\"service\":\"edge\"", "\"service\":\"edge \""),
            ("\"seq\":", "\"seq\":x"),
        ] {
            let changed = line.replacen(from, to, 1);
            assert!(changed != line && !pattern.is_match(&changed), "{changed}");
        }
        assert!(!pattern.is_match(&format!("{line} ")) && !pattern.is_match(&format!(" {line}")));
    }
}

#[test]
fn the_job_checks_lines_by_the_pattern_of_today() {
    let view = read("flink/sql/20-checked.sql");
    let again = "cargo run --release -p attune-telemetry --example log_schema -- observability";
    assert!(view.contains(&format!("'{}'", log_line_pattern())), "run: {again}");
    assert!(!log_line_pattern().contains('\''), "a quote would end the string");
}

#[test]
fn the_index_has_exactly_the_fields_of_a_line() {
    let template = json("opensearch/index-template.json");
    let mappings = &template["template"]["mappings"];
    assert_eq!(mappings["dynamic"], "strict");
    assert_eq!(fields(&mappings["properties"]), wanted());
    let types = |field: &Value| field["type"].as_str().unwrap_or("object").to_owned();
    let schema = log_schema();
    let mapped = |path: [&str; 2]| types(&mappings["properties"][path[0]]["properties"][path[1]]);
    for part in ["metrics", "context", "error"] {
        for (name, field) in schema["properties"][part]["properties"].as_object().unwrap() {
            let expected = match field["type"].as_str() {
                Some("integer") => "long",
                Some("number") => "double",
                Some("boolean") => "boolean",
                _ => "keyword",
            };
            assert_eq!(mapped([part, name]), expected, "{part}.{name}");
        }
    }
}

#[test]
fn indices_and_files_end_when_they_should() {
    let policy = json("opensearch/ism-policy.json");
    let states = policy["policy"]["states"].as_array().unwrap();
    let named = |name: &str| states.iter().find(|state| state["name"] == name).unwrap();
    let rollover = &named("write")["actions"][0]["rollover"];
    assert_eq!((rollover["min_index_age"].as_str(), rollover["min_size"].as_str()), (Some("1d"), Some("50gb")));
    assert_eq!(named("read")["transitions"][0]["conditions"]["min_index_age"], "7d");
    assert!(named("gone")["actions"][0].get("delete").is_some());
    for state in states.iter().flat_map(|state| state["transitions"].as_array().unwrap()) {
        named(state["state_name"].as_str().unwrap());
    }
    let template = json("opensearch/index-template.json");
    assert_eq!(policy["policy"]["ism_template"][0]["index_patterns"], template["index_patterns"]);
    let alias = template["template"]["settings"]["plugins.index_state_management.rollover_alias"].as_str().unwrap();
    assert!(json("opensearch/first-index.json")["aliases"][alias]["is_write_index"] == true);
    let tables = read("flink/sql/10-tables.sql");
    assert!(tables.contains(&format!("'index' = '{alias}'")), "the job writes through the alias");
    assert_eq!(json("object-storage/lifecycle.json")["Rules"][0]["Expiration"]["Days"], 90);
}

/// Columns of a table in a file of statements, those of rows by path; computed ones and constraints left out.
fn columns(sql: &str, table: &str) -> BTreeMap<String, String> {
    let begin = format!("CREATE TABLE {table} (\n");
    let body = sql.split(&begin).nth(1).unwrap_or_else(|| panic!("no table {table}"));
    let body = body.split("\n) ").next().unwrap();
    let mut found = BTreeMap::new();
    for line in body.lines().map(|line| line.trim().trim_end_matches(',').replace('`', "")) {
        let (name, kind) = line.split_once(' ').unwrap();
        match kind.strip_prefix("ROW<") {
            _ if ["WATERMARK", "PRIMARY"].contains(&name) || kind.starts_with("AS ") => {}
            Some(inner) => {
                for column in inner.trim_end_matches('>').split(", ") {
                    let (inner, kind) = column.split_once(' ').unwrap();
                    found.insert(format!("{name}.{inner}"), kind.to_owned());
                }
            }
            None => {
                let kind = kind.split(" METADATA").next().unwrap();
                found.insert(name.to_owned(), kind.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_tables_have_exactly_the_fields_of_a_line() {
    let sql = read("flink/sql/10-tables.sql");
    let names = |table| columns(&sql, table).into_keys().collect::<BTreeSet<_>>();
    assert_eq!(names("hot"), wanted());
    let mut cold = names("cold");
    assert!(cold.remove("day"), "files lie by day");
    assert_eq!(cold, wanted());
    let check = read("flink/check/tables.sql");
    for table in ["arrived", "hot", "cold", "dead"] {
        assert_eq!(columns(&check, table), columns(&sql, table), "the check's {table} is another table");
    }
    // Every field is read from the line, by its path.
    let lines = read("flink/sql/30-lines.sql");
    for field in fields(&log_schema()["properties"]) {
        assert!(lines.contains(&format!("'$.{field}'")), "{field} is not read");
    }
}

#[test]
fn topics_are_named_alike_everywhere() {
    let topics: BTreeSet<String> = yaml("kafka/log-topics.yaml")["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|topic| {
            let retention = topic["config"]["retention.ms"].as_str().unwrap().parse::<u64>().unwrap();
            let name = topic["name"].as_str().unwrap();
            assert!(name == "logs.dead" || retention == 86_400_000, "{name} is kept for a day");
            name.to_owned()
        })
        .collect();
    let streams: BTreeSet<String> = Stream::ALL.map(|stream| stream.topic().to_owned()).into();
    let dead = BTreeSet::from(["logs.dead".to_owned()]);
    assert_eq!(topics, &streams | &dead);

    let tables = read("flink/sql/10-tables.sql");
    let named: Vec<_> = tables.lines().filter_map(|line| line.trim().strip_prefix("'topic' = '")).collect();
    let named = named.iter().flat_map(|list| list.trim_end_matches("',").split(';')).map(str::to_owned);
    assert_eq!(named.collect::<BTreeSet<_>>(), topics);

    let agent = yaml("fluent-bit/fluent-bit.yaml");
    let outputs = agent["pipeline"]["outputs"].as_array().unwrap();
    let sent: BTreeMap<_, _> =
        outputs.iter().map(|out| (out["match"].as_str().unwrap(), out["topics"].as_str().unwrap())).collect();
    assert_eq!(sent.values().map(|topic| (*topic).to_owned()).collect::<BTreeSet<_>>(), streams);
    assert!(outputs.iter().all(|out| out["format"] == "raw" && out["rdkafka.acks"] == "all"));

    // What the agent sends where is what the list says.
    let filters = agent["pipeline"]["filters"].as_array().unwrap();
    for event in EVENTS {
        let line = format!(",\"event\":\"{}\",", event.name);
        let taken = filters.iter().find_map(|filter| {
            let mut words = filter["rule"].as_str().unwrap().split(' ').skip(1);
            let (pattern, tag) = (words.next().unwrap(), words.next().unwrap());
            Regex::new(pattern).unwrap().is_match(&line).then_some(tag)
        });
        assert_eq!(sent[taken.unwrap_or("app")], event.stream.topic(), "{}", event.name);
    }
}

#[test]
fn the_collector_is_built_of_what_its_configurations_name() {
    let list = yaml("collector/builder.yaml");
    let built = |kind: &str| -> BTreeSet<String> {
        let modules = list[kind].as_array().unwrap().iter().map(|module| module["gomod"].as_str().unwrap());
        let last = modules.map(|module| module.split(' ').next().unwrap().rsplit('/').next().unwrap().to_owned());
        let short =
            |name: String| name.trim_end_matches(kind.trim_end_matches('s')).replace("memorylimiter", "memory_limiter");
        last.map(short)
            .map(|name| {
                name.replace("tailsampling", "tail_sampling")
                    .replace("healthcheck", "health_check")
                    .replace("filestorage", "file_storage")
            })
            .collect()
    };
    let mut used: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in ["collector/gateway.yaml", "collector/gateway-tail-sampling.yaml"] {
        let config = yaml(file);
        for kind in ["receivers", "processors", "connectors", "exporters", "extensions"] {
            for name in config[kind].as_object().into_iter().flat_map(|part| part.keys()) {
                let component = name.split('/').next().unwrap().to_owned();
                used.entry(kind).or_default().insert(component);
            }
        }
    }
    for (kind, names) in used {
        assert_eq!(names, built(kind), "{kind}");
    }
}
