//! `attune train`: a data set becomes a model bundle.
//!
//! Always holds: the output folder is checked before the training and changed after it, by a rename: it holds the old
//! bundle or the new one, whole.

use crate::import::{format_of, passing_key};
use crate::model::metrics_table;
use crate::output::{bad_data, note, print, print_json};
use anyhow::Context as _;
use attune_dataset::{BarProgress, Dataset, ImportProgress, NoProgress, Source};
use attune_model::{Bar, Bundle, Head, Metric, Progress, Quiet, TrainConfig, TrainError};
use attune_runtime::{Exit, Fatal, OrExit as _, system_clock};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A data set, or a folder or file that `attune import` understands
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Folder of the bundle; a bundle that is there is replaced
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Settings of the training in TOML; what is left out keeps its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Seed of the training; overrides the file's
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Outcome<'a> {
    version: String,
    out: &'a Path,
    data: &'a str,
    data_hash: &'a str,
    items: usize,
    users: usize,
    events: usize,
    dim: usize,
    heads: &'a [Head],
    metrics: &'a BTreeMap<String, Metric>,
}

pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let config = config_of(args)?;
    check_out(&args.out)?;
    let data = read_data(&args.data, args.json)?;
    let bundle = if args.json {
        train_to(&data, &args.out, &config, &Quiet)?
    } else {
        train_to(&data, &args.out, &config, &Bar::default())?
    };
    let manifest = bundle.manifest();
    if args.json {
        return print_json(&Outcome {
            version: bundle.version().to_string(),
            out: &args.out,
            data: &manifest.data,
            data_hash: &manifest.data_hash,
            items: data.items.len(),
            users: data.users.len(),
            events: data.events.len(),
            dim: manifest.dim,
            heads: &manifest.heads,
            metrics: &manifest.metrics,
        });
    }
    print(&format!(
        "bundle {} in {}\ntrained on {}: {} items, {} users, {} events\n{}",
        bundle.version(),
        args.out.display(),
        manifest.data,
        data.items.len(),
        data.users.len(),
        data.events.len(),
        metrics_table(manifest)
    ))
}

/// Trains on `data` and puts the bundle at `out`, in the place of a bundle that is there.
pub fn train_to(data: &Dataset, out: &Path, config: &TrainConfig, progress: &dyn Progress) -> anyhow::Result<Bundle> {
    check_out(out)?;
    let bundle = attune_model::train(data, config, progress).map_err(|error| {
        let exit = match error {
            TrainError::Config { .. } => Exit::Usage,
            TrainError::Data(_) => Exit::Data,
            TrainError::Tensor(_) | TrainError::Bundle(_) => Exit::Internal,
        };
        Fatal::new(exit, error)
    })?;
    put(&bundle, out).with_context(|| format!("put the bundle at {}", out.display()))?;
    Ok(bundle)
}

fn config_of(args: &TrainArgs) -> anyhow::Result<TrainConfig> {
    let mut config = match &args.config {
        None => TrainConfig::default(),
        Some(path) => {
            let read = || format!("read the training settings {}", path.display());
            let text = fs::read_to_string(path).with_context(read).or_exit(Exit::Usage)?;
            toml::from_str(&text).with_context(read).or_exit(Exit::Usage)?
        }
    };
    if let Some(seed) = args.seed {
        config.seed = seed;
    }
    if config.created_at == 0 {
        config.created_at = system_clock()();
    }
    Ok(config)
}

/// A data set as it is, or a raw folder, imported for this once.
fn read_data(path: &Path, quiet: bool) -> anyhow::Result<Dataset> {
    if Dataset::exists(path) {
        return Dataset::load(path).or_exit(Exit::Data);
    }
    let source = Source { format: format_of(path, None)?, path: path.into() };
    let progress: &dyn ImportProgress = if quiet { &NoProgress } else { &BarProgress::default() };
    let (data, report) = attune_dataset::import(&source, &passing_key(), progress).or_exit(Exit::Data)?;
    if report.rejected_total() > 0 {
        note(&format!("{} of {} rows rejected; `attune import` says which", report.rejected_total(), report.rows_read));
    }
    if report.events == 0 {
        return Err(bad_data(format!("{} has no usable event", path.display())));
    }
    Ok(data)
}

/// Refuses a place that holds something else than a bundle.
fn check_out(out: &Path) -> anyhow::Result<()> {
    if out.file_name().is_none() {
        return Err(bad_data(format!("{} names no folder that a bundle could be", out.display())));
    }
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(bad_data(format!("{} is not a folder", out.display())));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", out.display())).or_exit(Exit::Data),
    };
    if entries.next().is_some() && !looks_like_bundle(out) {
        return Err(bad_data(format!("{} holds something that is not a bundle", out.display())));
    }
    Ok(())
}

/// Whether a folder is a bundle, whole or damaged.
pub(crate) fn looks_like_bundle(dir: &Path) -> bool {
    dir.join("manifest.json").is_file() && dir.join("manifest.hash").is_file()
}

/// Saves beside the place and swaps, since a folder cannot be renamed onto another that is not empty.
fn put(bundle: &Bundle, out: &Path) -> anyhow::Result<()> {
    if !looks_like_bundle(out) {
        return Ok(bundle.save(out)?);
    }
    let name = out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = |what: &str| out.with_file_name(format!(".{name}.{}.{what}", std::process::id()));
    let (fresh, old) = (beside("new"), beside("old"));
    bundle.save(&fresh)?;
    let swapped = fs::rename(out, &old).and_then(|()| {
        fs::rename(&fresh, out).inspect_err(|_| {
            // The error that matters is the first one; the old bundle is in `old` if even this fails.
            let _ = fs::rename(&old, out);
        })
    });
    let leftover = if swapped.is_ok() { &old } else { &fresh };
    // What cannot be removed only takes room.
    let _ = fs::remove_dir_all(leftover);
    Ok(swapped?)
}
