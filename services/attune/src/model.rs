//! `attune model`: the bundles of a state folder.

use crate::output::{bad_data, print, print_json};
use crate::state::StateFolder;
use crate::train::looks_like_bundle;
use anyhow::Context as _;
use attune_model::{Bundle, Head, Manifest, Metric};
use attune_runtime::{Exit, OrExit as _};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    pub command: ModelCommand,
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List the bundles with what they were made from and how good they are
    Ls(LsArgs),
}

#[derive(Debug, Args)]
pub struct LsArgs {
    /// The platform's state folder
    #[arg(long, value_name = "DIR", default_value = "./attune-state")]
    pub state: PathBuf,
    /// One line of JSON per bundle
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Listed<'a> {
    folder: &'a str,
    /// Whether it is the one that serves.
    live: bool,
    version: Option<String>,
    damaged: Option<String>,
    created_at: Option<String>,
    data: Option<&'a str>,
    data_hash: Option<&'a str>,
    items: Option<usize>,
    heads: &'a [Head],
    metrics: Option<&'a BTreeMap<String, Metric>>,
}

pub fn run(args: &ModelArgs) -> anyhow::Result<()> {
    match &args.command {
        ModelCommand::Ls(args) => list(args),
    }
}

fn list(args: &LsArgs) -> anyhow::Result<()> {
    let state = StateFolder::existing(&args.state);
    let folders = bundle_folders(&state)?;
    let live = state.bundle();
    let mut damaged = Vec::new();
    for (name, path) in &folders {
        let is_live = live.as_ref() == Some(path);
        let loaded = Bundle::load(path).map_err(anyhow::Error::from);
        match (&loaded, args.json) {
            (Ok(bundle), false) => print(&describe(bundle, is_live))?,
            (Err(error), false) => print(&format!("{name}  damaged: {error:#}\n"))?,
            (_, true) => {
                let manifest = loaded.as_ref().ok().map(Bundle::manifest);
                print_json(&Listed {
                    folder: name,
                    live: is_live,
                    version: loaded.as_ref().ok().map(|bundle| bundle.version().to_string()),
                    damaged: loaded.as_ref().err().map(|error| format!("{error:#}")),
                    created_at: manifest.map(|m| created_at(m.created_at)),
                    data: manifest.map(|m| m.data.as_str()),
                    data_hash: manifest.map(|m| m.data_hash.as_str()),
                    items: manifest.map(|m| m.trained_items),
                    heads: manifest.map_or(&[], |m| &m.heads),
                    metrics: manifest.map(|m| &m.metrics),
                })?;
            }
        }
        if loaded.is_err() {
            damaged.push(name.as_str());
        }
    }
    match damaged.as_slice() {
        [] if folders.is_empty() => Err(bad_data(format!("{} holds no bundles", state.bundles().display()))),
        [] => Ok(()),
        names => Err(bad_data(format!("damaged bundles: {}", names.join(", ")))),
    }
}

/// By name. Folders that are written at this moment begin with a dot and do not count.
fn bundle_folders(state: &StateFolder) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let unreadable = || format!("cannot read the state folder {}", state.root().display());
    std::fs::read_dir(state.root()).with_context(unreadable).or_exit(Exit::Data)?;
    let dir = state.bundles();
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(unreadable).or_exit(Exit::Data)? {
        let path = entry.with_context(unreadable).or_exit(Exit::Data)?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with('.') && looks_like_bundle(&path) {
            folders.push((name, path));
        }
    }
    folders.sort();
    Ok(folders)
}

fn describe(bundle: &Bundle, live: bool) -> String {
    let manifest = bundle.manifest();
    format!(
        "{}  {}{}\ntrained on {} (hash {}), {} items, {} dimensions\n{}",
        bundle.version(),
        created_at(manifest.created_at),
        if live { "  live" } else { "" },
        manifest.data,
        manifest.data_hash.get(..16).unwrap_or(&manifest.data_hash),
        manifest.trained_items,
        manifest.dim,
        metrics_table(manifest)
    )
}

/// Heads and metrics, a line each.
pub(crate) fn metrics_table(manifest: &Manifest) -> String {
    let mut text = String::new();
    let mut line = |first: &str, second: String, third: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {first:<36} {second:>12}  {third}");
    };
    for head in &manifest.heads {
        let calibrated = if head.calibrated { "calibrated" } else { "order only" };
        line(
            &format!("head {}", head.name),
            head.rows.to_string(),
            format!("rows of {}, {calibrated}", head.trained_on),
        );
    }
    for (name, metric) in &manifest.metrics {
        line(name, format!("{:.4}", metric.value), format!("{} samples", metric.samples));
    }
    text
}

fn created_at(unix_millis: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_millis / 1000 * 1000) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{unix_millis} ms"))
}
