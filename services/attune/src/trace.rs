//! `attune trace`: the waterfall of a kept trace, and the decision that was made in it.
//!
//! It reads what the processes of a platform wrote, and asks nobody but the decision log. A request's id is its trace's.

mod decision;
pub(crate) mod files;
mod waterfall;

use crate::about::About;
use crate::output;
use crate::replay::{Found, Source};
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_decision::Path as DecisionPath;
use attune_domain::{RequestId, UnixMillis};
use attune_runtime::{Exit, Fatal, OrExit as _, system_clock};
use attune_telemetry::TelemetryConfig;
use attune_telemetry::sampling::Threshold;
use clap::Args;
use files::{Kept, TraceFiles};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The id in a request's answer, or a trace's, which are the same
    #[arg(value_name = "REQUEST_OR_TRACE_ID", required_unless_present = "last")]
    pub id: Option<String>,
    /// List the newest kept traces instead
    #[arg(long, value_name = "N", conflicts_with = "id", value_parser = clap::value_parser!(u16).range(1..))]
    pub last: Option<u16>,
    /// The state folder of a platform that is stopped
    #[arg(long, value_name = "DIR", conflicts_with = "edge")]
    pub state: Option<PathBuf>,
    /// The running platform
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub edge: String,
    /// Print the trace as OTLP JSON; of a list, one JSON object a trace
    #[arg(long)]
    pub json: bool,
}

/// A trace this young may still be on its way into the files: its parts wait some seconds for a verdict.
const SETTLING_MS: i64 = 10_000;
/// Where stdout is no terminal.
const WIDTH: usize = 120;

/// Where a platform's traces and decisions are.
struct Place {
    files: TraceFiles,
    running: Option<About>,
    state: Option<PathBuf>,
    /// Shares of normal and of edge-only traces that are kept.
    shares: (f64, f64),
}

pub(crate) fn run(args: &TraceArgs) -> anyhow::Result<()> {
    let id = args.id.as_deref().map(|text| {
        let id = RequestId::parse(text);
        id.ok_or_else(|| {
            output::bad_usage(format!("{text:?}: a request or trace id is 32 lower-case hexadecimal digits"))
        })
    });
    let id = id.transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let place = Place::find(args).await?;
        match id {
            Some(id) => show(&place, id, args.json).await,
            None => list(&place, usize::from(args.last.unwrap_or(1)), args.json),
        }
    })
}

impl Place {
    async fn find(args: &TraceArgs) -> anyhow::Result<Self> {
        if let Some(dir) = &args.state {
            let folder = StateFolder::reopen(dir)?.root().join("traces");
            let defaults = TelemetryConfig::default();
            return Ok(Self {
                files: TraceFiles::of(&folder, None)?,
                running: None,
                state: Some(dir.clone()),
                shares: (defaults.sample_normal, defaults.sample_edge_only),
            });
        }
        let about = About::ask(&args.edge).await?;
        let file = about.traces.as_deref();
        let file = file.context("this platform writes no traces: `process.telemetry.traces` of its edge names no file");
        let file = file.or_exit(Exit::Data)?;
        let folder = file.parent().unwrap_or(file);
        if !folder.is_dir() {
            return Err(output::bad_data(format!(
                "the platform keeps its traces in {}, which is not on this machine",
                folder.display()
            )));
        }
        Ok(Self {
            files: TraceFiles::of(folder, Some(file))?,
            shares: (about.sample_normal, about.sample_edge_only),
            running: Some(about),
            state: None,
        })
    }

    async fn source(&self) -> anyhow::Result<Source> {
        match (&self.running, &self.state) {
            (Some(about), _) => Source::of_about(about),
            (None, Some(dir)) => Source::of_folder(dir).await,
            (None, None) => anyhow::bail!("no platform"),
        }
    }
}

async fn show(place: &Place, id: RequestId, json: bool) -> anyhow::Result<()> {
    let kept = place.files.one(id)?;
    if json && let Some(kept) = &kept {
        return output::print_json(&kept.export);
    }
    // A trace is worth showing also where its decision cannot be had.
    let source = place.source().await;
    let found = match &source {
        Ok(source) => source.decision(id).await,
        Err(error) => Err(anyhow::anyhow!("{}", output::one_line(error))),
    };
    let now = (system_clock())();
    let Some(kept) = kept else {
        if let (false, Ok(source), Ok(Found::Record(record))) = (json, &source, &found) {
            output::print(&decision::describe(source, record).await)?;
        }
        let (exit, why) = why_missing(place, id, now, found.as_ref().ok());
        return Err(Fatal::new(exit, anyhow::anyhow!(why)).into());
    };
    let spans = kept.spans();
    let width = console::Term::stdout().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns));
    output::print(&waterfall::draw(&spans, width))?;
    output::print(&waterfall::summary(&spans))?;
    match (&source, found) {
        (Ok(source), Ok(Found::Record(record))) => output::print(&decision::describe(source, &record).await)?,
        (_, Ok(Found::Record(_))) => {}
        (_, Ok(Found::Erased)) => output::print("decision   erased with its visitor")?,
        (_, Ok(Found::Unknown)) => output::print("decision   none: the decision log has no page of this id")?,
        (_, Err(error)) => output::note(&format!("attune: the decision is not shown: {}", output::one_line(&error))),
    }
    if place.running.is_some() && is_settling(id, now) {
        output::note("attune: the trace is seconds old, and parts of it may still be on their way");
    }
    Ok(())
}

fn is_settling(id: RequestId, now: UnixMillis) -> bool {
    now.saturating_sub(id.unix_millis()).abs() < SETTLING_MS
}

/// What is likely, and what can be done.
fn why_missing(place: &Place, id: RequestId, now: UnixMillis, found: Option<&Found>) -> (Exit, String) {
    if place.running.is_some() && is_settling(id, now) {
        let why = format!(
            "no kept trace has the id {id} yet: parts of a trace wait some seconds for a verdict, so ask again after {} s",
            SETTLING_MS / 1_000
        );
        return (Exit::TryLater, why);
    }
    let record = match found {
        Some(Found::Record(record)) => record,
        Some(Found::Erased) => {
            return (Exit::Data, format!("no kept trace has the id {id}, and its visitor has been erased"));
        }
        Some(Found::Unknown) => {
            let why = format!("no kept trace has the id {id}, and the decision log has no page of that id");
            return (Exit::Data, why);
        }
        None => {
            let why = format!("no kept trace has the id {id}, and the decision log cannot be read to say why");
            return (Exit::Data, why);
        }
    };
    let (class, share) = match DecisionPath::from_code(record.path) {
        Some(DecisionPath::Miss) => ("normal", place.shares.0),
        _ => ("edge_only", place.shares.1),
    };
    let threshold = Threshold::of_share(share);
    if threshold.keeps(id.randomness()) {
        let why = format!("no kept trace has the id {id}; it was kept, so the file that had it is gone by now");
        return (Exit::Data, why);
    }
    let lot = if share > 0.0 {
        let percent = share * 100.0;
        format!(
            "{percent}% are, those whose last 14 digits are at least {:014x}, and {:014x} is less",
            threshold.bits(),
            id.randomness()
        )
    } else {
        "none is".to_owned()
    };
    let why = format!(
        "the trace of {id} was not kept: of class {class}, {lot}; errors, slow requests and those that use the llm \
         always are, and others with a debug token or a higher process.telemetry.sample_{class}"
    );
    (Exit::Data, why)
}

/// One line of the list.
#[derive(Debug, Serialize)]
struct Line {
    trace_id: String,
    /// RFC 3339.
    at: String,
    root: String,
    duration_ms: f64,
    /// Of the sampling; none where the part that knows it was not kept.
    class: Option<String>,
    spans: usize,
    services: usize,
    errors: usize,
}

impl Line {
    fn of(kept: &Kept) -> Self {
        let spans = kept.spans();
        let ended = spans.iter().map(|s| s.span.end_time_unix_nano).max().unwrap_or(0);
        let root = spans.iter().min_by_key(|s| (!s.span.parent_span_id.is_empty(), s.span.start_time_unix_nano));
        let begun = root.map_or(0, |s| s.span.start_time_unix_nano);
        let mut services: Vec<_> = spans.iter().map(|s| s.service).collect();
        services.sort_unstable();
        services.dedup();
        Self {
            trace_id: kept.id.to_string(),
            at: files::rfc3339(begun),
            root: root.map(|s| s.span.name.clone()).unwrap_or_default(),
            duration_ms: (ended.saturating_sub(begun) as f64 / 1e3).round() / 1e3,
            class: spans.iter().find_map(|s| s.text("sampling.reason")),
            spans: spans.len(),
            services: services.len(),
            errors: spans.iter().filter(|s| s.failed()).count(),
        }
    }
}

fn list(place: &Place, most: usize, json: bool) -> anyhow::Result<()> {
    let lines: Vec<_> = place.files.newest(most)?.iter().map(Line::of).collect();
    if lines.is_empty() {
        return Err(output::bad_data("no trace was kept"));
    }
    if json {
        return lines.iter().try_for_each(output::print_json);
    }
    let head = format!(
        "{:32}  {:24}  {:>9}  {:9}  {:>5}  {:>8}  {:>6}  root",
        "trace", "at", "ms", "class", "spans", "services", "errors"
    );
    output::print(&head)?;
    for line in lines {
        let class = line.class.as_deref().unwrap_or("-");
        output::print(&format!(
            "{}  {:24}  {:9.2}  {class:9}  {:5}  {:8}  {:6}  {}",
            line.trace_id, line.at, line.duration_ms, line.spans, line.services, line.errors, line.root
        ))?;
    }
    Ok(())
}
