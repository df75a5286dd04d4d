//! The lake and its tables for ClickHouse against the real thing: an embedded ClickHouse takes the tables and views, loads
//! a lake that was exported from a platform with simulated visitors, and answers every query as it is computed here.

mod answers;

use super::process;
use anyhow::{Context as _, bail};
use attune_lake::{Lake, Table};
use clap::Args;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Args)]
pub(crate) struct LakeArgs {
    /// A lake that is there, instead of one of a simulated platform
    #[arg(long, value_name = "DIR")]
    lake: Option<PathBuf>,
    /// The program to run; built when it is not named
    #[arg(long, value_name = "FILE")]
    attune: Option<PathBuf>,
}

/// How long the simulated visitors walk.
const WALK: Duration = Duration::from_secs(30);
/// Many visitors without personalization, so that a few seconds have a lift.
const SETTINGS: &str = "[edge.experiment]\nholdout = 0.3\n";

pub(crate) fn run(args: &LakeArgs) -> anyhow::Result<ExitCode> {
    let root = crate::root();
    let clickhouse = crate::tools::clickhouse()?;
    let work = tempfile::tempdir().context("create a folder to work in")?;
    let folder = match &args.lake {
        Some(lake) => lake.canonicalize().with_context(|| format!("find {}", lake.display()))?,
        None => exported(&process::attune(&root, args.attune.as_deref())?, work.path())?,
    };
    let lake = Lake::open(&folder).with_context(|| format!("open the lake in {}", folder.display()))?;
    for table in Table::ALL {
        let Some(entry) = lake.manifest().table(table) else { bail!("the lake has no table {table}") };
        let each = entry.bytes as f64 / entry.rows.max(1) as f64;
        println!("{table:<12} {:>9} rows {:>11} bytes {each:>7.1} bytes a row", entry.rows, entry.bytes);
    }

    let sql = |name: &str| {
        let path = root.join("observability/clickhouse").join(name);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let mut made = statements(&sql("tables.sql")?);
    made.extend(statements(&sql("views.sql")?));
    // A second time changes nothing.
    made.extend(made.clone());
    let place = format!("file('{}/", folder.display());
    made.extend(statements(&sql("load.sql")?.replace("file('lake/", &place)));
    let queries = named(&sql("queries.sql")?)?;
    let expected = answers::of(&lake)?;
    let begun = Instant::now();
    let found = ask(&clickhouse, work.path(), &made, &queries)?;
    println!("{} statements and {} queries in {:.1} s", made.len(), queries.len(), begun.elapsed().as_secs_f64());

    let mut wrong = 0;
    for ((name, _), rows) in queries.iter().zip(&found) {
        let Some((_, answer)) = expected.iter().find(|(known, _)| known == name) else {
            bail!("queries.sql asks {name}, which is not computed here");
        };
        match difference(answer, rows) {
            None => println!("{name:<16} {} rows, as computed: {}", rows.len(), first(rows)),
            Some(difference) => {
                println!("{name:<16} {difference}");
                wrong += 1;
            }
        }
    }
    if queries.len() != expected.len() {
        bail!("{} queries, {} answers", queries.len(), expected.len());
    }
    check_erasure(&clickhouse, work.path(), &statements(&sql("erase.sql")?), &lake)?;
    if wrong > 0 {
        bail!("{wrong} answers are not what was computed");
    }
    Ok(ExitCode::SUCCESS)
}

/// A lake of a platform through which simulated visitors walked.
fn exported(attune: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let settings = work.join("attune.toml");
    std::fs::write(&settings, SETTINGS).context("write settings")?;
    let more: [&std::ffi::OsStr; 4] = ["--visitors".as_ref(), "300".as_ref(), "--config".as_ref(), settings.as_ref()];
    let (platform, _) = process::platform(attune, work, &more)?;
    std::thread::sleep(WALK);
    drop(platform);
    let lake = work.join("lake");
    let begun = Instant::now();
    let mut export = Command::new(attune);
    export.args(["export", "--horizon", "15s", "--state"]).arg(work.join("state")).arg("--to").arg(&lake);
    println!("{}", process::said(&mut export, "export")?.trim_end());
    println!("exported in {:.1} s", begun.elapsed().as_secs_f64());
    Ok(lake)
}

/// After it nothing of the visitor is left, and everything of the others is.
fn check_erasure(clickhouse: &Path, work: &Path, erase: &[String], lake: &Lake) -> anyhow::Result<()> {
    let (uid, theirs) = answers::busiest(lake)?;
    let erase: Vec<_> = erase.iter().map(|sql| sql.replace("{uid:String}", &format!("'{uid}'"))).collect();
    let counted = |who: &str| format!("SELECT count() FROM training FINAL WHERE uid {who} unhex('{uid}')");
    let queries = ["=", "!="].map(|who| (who.to_owned(), counted(who)));
    let before = ask(clickhouse, work, &[], &queries)?;
    let after = ask(clickhouse, work, &erase, &queries)?;
    if before[0] != [json!([theirs])] || after[0] != [json!([0])] || after[1] != before[1] {
        bail!("erase.sql: {before:?} became {after:?}, of {theirs} rows");
    }
    println!("erase.sql        {theirs} rows of a visitor went, {} of others stayed", first(&after[1]));
    Ok(())
}

fn first(rows: &[Value]) -> String {
    let text = rows.first().map(Value::to_string).unwrap_or_default();
    if text.len() > 110 { format!("{}...", &text[..110]) } else { text }
}

/// Statements of a file, without its comments.
fn statements(sql: &str) -> Vec<String> {
    let lines: Vec<_> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let text = lines.join("\n");
    text.split(";\n").map(|one| one.trim().trim_end_matches(';').to_owned()).filter(|one| !one.is_empty()).collect()
}

/// Queries by the name that stands before each.
fn named(sql: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for part in sql.split("-- name: ").skip(1) {
        let (name, rest) = part.split_once('\n').context("a query has a name")?;
        let [query] = &statements(rest)[..] else { bail!("query {name} is not one statement") };
        queries.push((name.to_owned(), query.clone()));
    }
    Ok(queries)
}

fn ask(program: &Path, work: &Path, made: &[String], queries: &[(String, String)]) -> anyhow::Result<Vec<Vec<Value>>> {
    let queries: Vec<_> = queries.iter().map(|(_, query)| query).collect();
    let asked = json!({"folder": work.join("clickhouse"), "statements": made, "queries": queries});
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the embedded ClickHouse")?;
    let mut stdin = child.stdin.take().context("speak to the embedded ClickHouse")?;
    stdin.write_all(asked.to_string().as_bytes()).context("ask the embedded ClickHouse")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for the embedded ClickHouse")?;
    if !output.status.success() {
        bail!("ClickHouse: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read ClickHouse's answers")
}

/// The first difference beyond rounding.
fn difference(expected: &[Vec<Value>], found: &[Value]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} rows instead of {}: {}", found.len(), expected.len(), first(found)));
    }
    for (row, (expected, found)) in expected.iter().zip(found).enumerate() {
        let found = found.as_array().map_or(&[][..], Vec::as_slice);
        let same = expected.len() == found.len() && expected.iter().zip(found).all(|(a, b)| is_same(a, b));
        if !same {
            return Some(format!("row {row} is {} instead of {}", json!(found), json!(expected)));
        }
    }
    None
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        // Sums of single floats in another order.
        (Some(a), Some(b)) => (a - b).abs() <= 1e-5 * a.abs().max(b.abs()).max(1e-3),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_apart_by_their_names() {
        let sql = "-- about\n\n-- name: a\nSELECT 1;\n\n-- a word\n-- name: b\nSELECT 2\nFROM x;\n";
        let expected = [("a", "SELECT 1"), ("b", "SELECT 2\nFROM x")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(named(sql).unwrap(), expected);
        assert!(named("-- name: a\nSELECT 1;\nSELECT 2;\n").is_err());
        let all = named(include_str!("../../../../observability/clickhouse/queries.sql")).unwrap();
        assert!(all.len() >= 10 && all.iter().all(|(_, query)| query.starts_with("SELECT")));
    }

    #[test]
    fn answers_are_the_same_up_to_rounding() {
        let row = |value: Value| vec![vec![json!("a"), value]];
        for (expected, found, same) in [
            (json!(0.5), json!(0.500_000_1), true),
            (json!(0.5), json!(0.501), false),
            (json!(0), json!(1), false),
            (json!(null), json!(null), true),
            (json!(null), json!(0.0), false),
        ] {
            assert_eq!(difference(&row(expected), &[json!(["a", found])]).is_none(), same);
        }
        assert!(difference(&row(json!(1)), &[]).is_some());
    }
}
