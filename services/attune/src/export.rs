//! `attune export`: what a platform knows becomes a lake, or what it came to know since is added to one.

mod source;
mod times;

use crate::import::refused;
use crate::output::{self, print, print_json};
use crate::replay::Source;
use anyhow::Context as _;
use attune_config::HumanDuration;
use attune_identity::SubjectKey;
use attune_lake::{ExportOptions, ExportProgress, Lake, Table, TableReport};
use attune_runtime::{Exit, OrExit as _, system_clock};
use clap::Args;
use clap::builder::PossibleValuesParser;
use parking_lot::Mutex;
use serde::Serialize;
use source::Platform;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folder of the lake, made where there is none
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The state folder of a platform that is stopped
    #[arg(long, value_name = "DIR", conflicts_with = "edge")]
    pub state: Option<PathBuf>,
    /// The running platform, on this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub edge: String,
    /// Only hours from this one on: 2026-01-29, 2026-01-29T10 or 2026-01-29T10:00:00Z
    #[arg(long, value_name = "T", value_parser = times::hour)]
    pub since: Option<i64>,
    /// Only hours before this one
    #[arg(long, value_name = "T", value_parser = times::hour)]
    pub until: Option<i64>,
    /// Only this table; may be given more than once
    #[arg(long = "table", value_name = "TABLE", value_parser = PossibleValuesParser::new(Table::ALL.map(Table::as_str)))]
    pub tables: Vec<String>,
    /// How long after a decision an outcome counts for training; a decision is exported when it is over
    #[arg(long, value_name = "TIME", default_value = "30m")]
    pub horizon: HumanDuration,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Outcome<'a> {
    to: &'a Path,
    key_fingerprint: &'a str,
    schema_version: u32,
    tables: &'a [TableReport],
}

pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    if args.since.is_some() && args.until.is_some() && args.since >= args.until {
        return Err(output::bad_usage("--until must be after --since"));
    }
    let named = args.tables.iter().filter_map(|name| Table::parse(name));
    let mut tables: Vec<_> = if args.tables.is_empty() { Table::ALL.to_vec() } else { named.collect() };
    tables.sort();
    tables.dedup();
    let options = ExportOptions {
        tables,
        since: args.since,
        until: args.until,
        now: (system_clock())(),
        horizon: args.horizon.get(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let source = match &args.state {
            Some(dir) => Source::of_folder(dir).await?,
            None => Source::running(&args.edge).await?,
        };
        let state = source.bundles().parent().map(Path::to_owned).unwrap_or_default();
        let key = SubjectKey::load(&state.join("keys/subject.key")).or_exit(Exit::Data)?;
        let mut lake = Lake::create(&args.to, &key.fingerprint()).map_err(refused)?;
        let platform = Platform::new(source);
        let bar = Bar::default();
        let reports = attune_lake::export(&mut lake, &platform, &options, &bar).await.map_err(refused)?;
        if args.json {
            let manifest = lake.manifest();
            return print_json(&Outcome {
                to: &args.to,
                key_fingerprint: &manifest.key_fingerprint,
                schema_version: manifest.schema_version,
                tables: &reports,
            });
        }
        print(&table(&reports))
    })
}

/// For people.
fn table(reports: &[TableReport]) -> String {
    let mut text = format!(
        "{:<12} {:>6} {:>12} {:>14} {:>12} {:>14} {:>9}",
        "table", "hours", "new rows", "new bytes", "all rows", "all bytes", "erased"
    );
    for report in reports {
        text.push_str(&format!(
            "\n{:<12} {:>6} {:>12} {:>14} {:>12} {:>14} {:>9}",
            report.table,
            report.hours.len(),
            report.rows,
            report.bytes,
            report.total_rows,
            report.total_bytes,
            report.erased + report.removed_rows
        ));
    }
    for report in reports {
        if report.unreadable > 0 {
            text.push_str(&format!("\n{}: {} records were empty or unreadable", report.table, report.unreadable));
        }
        if report.rewritten_parts > 0 {
            let (parts, rows) = (report.rewritten_parts, report.removed_rows);
            text.push_str(&format!("\n{}: {rows} rows of erased visitors went, {parts} files anew", report.table));
        }
        if let Some(outcome) = report.training {
            text.push_str(&format!(
                "\ntraining: {} slots unseen, {} without their model; of {} decisions whose state had applied just what \
                 was known, {} saw another window and {} other attributes",
                outcome.unseen,
                outcome.without_model,
                outcome.compared,
                outcome.differing,
                outcome.other_attributes
            ));
        }
    }
    text
}

/// A bar for each table, on stderr.
#[derive(Default)]
struct Bar(Mutex<Option<indicatif::ProgressBar>>);

impl ExportProgress for Bar {
    fn table(&self, table: Table, records: u64) {
        *self.0.lock() = Some(output::progress_bar(table.as_str(), records));
    }

    fn at(&self, records: u64) {
        if let Some(bar) = &*self.0.lock() {
            bar.set_position(records);
        }
    }

    fn done(&self) {
        if let Some(bar) = self.0.lock().take() {
            bar.finish_and_clear();
        }
    }
}
