//! Writes what is made from the list of events into the folder `observability` that is named: the schema of a log line,
//! and the view of the Flink job that checks lines.

use anyhow::Context as _;
use attune_telemetry::{log_line_pattern, log_schema};
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("want the folder `observability`")?;
    let folder = Path::new(&folder);
    for (name, text) in [
        ("logs/log-line.schema.json", format!("{:#}\n", log_schema())),
        ("flink/sql/20-checked.sql", format!("{CHECKED}'{}'\n) AS is_valid\nFROM arrived;\n", log_line_pattern())),
    ] {
        std::fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

const CHECKED: &str = "\
-- Made by `cargo run --release -p attune-telemetry --example log_schema -- observability`.
-- A line of ours has its fields in one order, and each field a closed list or a narrow form of values: what does not match
-- was not written by this version of the platform, and may hold anything.
CREATE TEMPORARY VIEW checked AS
SELECT *, REGEXP(line,
";
