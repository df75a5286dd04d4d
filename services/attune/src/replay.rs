//! `attune replay`: runs logged decisions again, stage by stage, and names the first stage that differs.
//!
//! Replay never echoes: every stage's output is computed from the record's inputs and the objects it names, and only
//! then held against the record's digest.

mod check;
mod source;

pub use check::{Difference, Materials, check, redraw};
pub use source::{Found, MaterialsCache, Source};

use crate::output;
use anyhow::Context as _;
use attune_decision::DecisionRecord;
use attune_domain::RequestId;
use attune_runtime::{Exit, Fatal, OrExit as _};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Decisions to replay; without any, the newest
    pub request_ids: Vec<String>,
    /// How many of the newest to replay
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "request_ids")]
    pub last: usize,
    /// The state folder of a platform that is stopped
    #[arg(long, value_name = "DIR", conflicts_with = "edge")]
    pub state: Option<PathBuf>,
    /// The running platform
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub edge: String,
    /// Print one JSON object a decision
    #[arg(long)]
    pub json: bool,
}

/// What became of one decision.
#[derive(Debug, Serialize)]
struct Line {
    request_id: String,
    /// `same`, `differs`, `erased`, `unknown` or `unavailable`.
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<()> {
    let ids = args
        .request_ids
        .iter()
        .map(|text| {
            RequestId::parse(text).ok_or_else(|| output::bad_usage("a request id is 32 lower-case hexadecimal digits"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let source = match &args.state {
            Some(dir) => Source::of_folder(dir).await?,
            None => Source::running(&args.edge).await?,
        };
        let ids = if ids.is_empty() { source.recent(args.last).await? } else { ids };
        if ids.is_empty() {
            return Err(anyhow::anyhow!("the decision log is empty")).or_exit(Exit::Data);
        }
        replay_all(&source, &ids, args.json).await
    })
}

async fn replay_all(source: &Source, ids: &[RequestId], json: bool) -> anyhow::Result<()> {
    let bar = output::progress_bar("replaying", ids.len() as u64);
    let (mut same, mut differ, mut missing) = (0usize, 0usize, 0usize);
    let mut materials = source::MaterialsCache::default();
    for (done, id) in ids.iter().enumerate() {
        let line = replay_one(source, &mut materials, *id).await?;
        match line.outcome {
            "same" => same += 1,
            "differs" => differ += 1,
            _ => missing += 1,
        }
        bar.set_position(done as u64 + 1);
        if json {
            output::print_json(&line)?;
        } else if ids.len() == 1 || line.outcome != "same" {
            let stage = line.stage.map(|stage| format!(" at {stage}")).unwrap_or_default();
            let detail = line.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
            let path = line.path.map(|path| format!(" ({path})")).unwrap_or_default();
            output::print(&format!("{}{path}  {}{stage}{detail}", line.request_id, line.outcome))?;
        }
    }
    bar.finish_and_clear();
    if !json && ids.len() > 1 {
        output::print(&format!(
            "replayed {}: {same} the same, {differ} differ, {missing} not to be replayed",
            ids.len()
        ))?;
    }
    if differ > 0 {
        return Err(Fatal::new(Exit::Differs, anyhow::anyhow!("{differ} of {} decisions differ", ids.len())).into());
    }
    if missing > 0 && same == 0 {
        return Err(anyhow::anyhow!("nothing could be replayed")).or_exit(Exit::Data);
    }
    Ok(())
}

async fn replay_one(source: &Source, materials: &mut source::MaterialsCache, id: RequestId) -> anyhow::Result<Line> {
    let line = |outcome| Line { request_id: id.to_string(), outcome, path: None, stage: None, detail: None };
    let record = match source.decision(id).await? {
        Found::Record(record) => record,
        Found::Erased => return Ok(line("erased")),
        Found::Unknown => return Ok(line("unknown")),
    };
    let path = path_name(&record);
    Ok(match source.materials(&record, materials).await? {
        Err(missing) => Line { path, detail: Some(missing), ..line("unavailable") },
        Ok(materials) => match check(&record, &materials) {
            None => Line { path, ..line("same") },
            Some(Difference { stage, detail }) => {
                Line { path, stage: Some(stage.as_str()), detail: Some(detail), ..line("differs") }
            }
        },
    })
}

pub(crate) fn path_name(record: &DecisionRecord) -> Option<&'static str> {
    attune_decision::Path::from_code(record.path).map(|path| match path {
        attune_decision::Path::Hit => "hit",
        attune_decision::Path::Miss => "miss",
        attune_decision::Path::Favourites => "favourites",
    })
}
