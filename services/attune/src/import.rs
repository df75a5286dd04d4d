//! `attune import`: somebody's history becomes a data set folder; a lake becomes one, or a state folder.
//!
//! Always holds: nothing is written before everything was read, and nothing at all under `--dry-run`; a data set made
//! under another subject key is never mixed with or replaced by this one.

mod parquet;

pub(crate) use parquet::refused;

use crate::output::{bad_data, bad_usage, note, print, print_json};
use anyhow::Context as _;
use attune_dataset::{BarProgress, Dataset, Format, ImportProgress, NoProgress, Report, Source, detect};
use attune_identity::SubjectKey;
use attune_runtime::{Exit, OrExit as _};
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A lake that `attune export` wrote.
const PARQUET: &str = "parquet";
const FORMATS: [&str; Format::ALL.len() + 1] = {
    let mut names = [PARQUET; Format::ALL.len() + 1];
    let mut at = 0;
    while at < Format::ALL.len() {
        names[at] = Format::ALL[at].as_str();
        at += 1;
    }
    names
};

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// What the source looks like inside; told from its files when left out
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(FORMATS))]
    pub from: Option<String>,
    /// A folder, or its main file
    #[arg(value_name = "DIR_OR_FILE")]
    pub source: PathBuf,
    /// Folder of the data set
    #[arg(long, value_name = "DIR", required_unless_present_any = ["dry_run", "state"])]
    pub to: Option<PathBuf>,
    /// Fill this empty state folder instead, and train a model for it (only from parquet)
    #[arg(long, value_name = "DIR", conflicts_with = "to")]
    pub state: Option<PathBuf>,
    /// Subject key that the users become pseudonyms under [default: keys/subject.key in the data set's folder, made
    /// where it is missing]
    #[arg(long, value_name = "FILE")]
    pub subject_key: Option<PathBuf>,
    /// Read and report, write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    report: &'a Report,
    dry_run: bool,
    to: Option<&'a Path>,
    hash: Option<String>,
    key_fingerprint: Option<&'a str>,
}

/// The key that an import uses.
struct Key {
    key: SubjectKey,
    /// Where it must be written before the data set is; none when it is there, or must not be kept.
    save_to: Option<PathBuf>,
    /// False for the throw-away key of a dry run.
    lasting: bool,
}

pub fn run(args: &ImportArgs) -> anyhow::Result<()> {
    let is_lake = args.from.is_none() && attune_lake::Lake::exists(&args.source);
    if is_lake || args.from.as_deref() == Some(PARQUET) {
        return parquet::run(args);
    }
    if args.state.is_some() {
        return Err(bad_usage("--state is filled from parquet only: use `attune up --data` for other formats"));
    }
    let format = format_of(&args.source, args.from.as_deref())?;
    let Key { key, save_to, lasting } = key_for(args)?;
    if let Some(to) = &args.to {
        check_target(to, lasting.then_some(&key))?;
    }
    let progress: &dyn ImportProgress = if args.json { &NoProgress } else { &BarProgress::default() };
    let source = Source { format, path: args.source.clone() };
    let (data, report) = attune_dataset::import(&source, &key, progress).or_exit(Exit::Data)?;

    let usable = report.kept > 0 && report.events > 0;
    let mut hash = None;
    if let Some(to) = args.to.as_deref().filter(|_| usable && !args.dry_run) {
        if let Some(path) = save_to {
            key.save(&path).context("keep the subject key")?;
        }
        data.save(to).context("save the data set")?;
        hash = Some(data.hash());
    }
    if args.json {
        let fingerprint = hash.is_some().then_some(data.key_fingerprint.as_str());
        let to = args.to.as_deref().filter(|_| hash.is_some());
        print_json(&Outcome { report: &report, dry_run: args.dry_run, to, hash, key_fingerprint: fingerprint })?;
    } else {
        print(&report.to_string())?;
        match (&args.to, &hash) {
            (Some(to), Some(hash)) => print(&format!("data set {} in {}", short(hash), to.display()))?,
            _ if usable => note("dry run: nothing was written"),
            _ => {}
        }
    }
    if usable {
        return Ok(());
    }
    Err(bad_data(format!(
        "{} has no usable event: {} of {} rows rejected",
        args.source.display(),
        report.rejected_total(),
        report.rows_read
    )))
}

/// The format asked for, or the one that the files look like.
pub(crate) fn format_of(source: &Path, asked: Option<&str>) -> anyhow::Result<Format> {
    if let Some(format) = asked.and_then(Format::parse) {
        return Ok(format);
    }
    std::fs::metadata(source).with_context(|| format!("cannot read {}", source.display())).or_exit(Exit::Data)?;
    detect(source).ok_or_else(|| {
        let known = Format::ALL.map(Format::as_str).join(", ");
        bad_data(format!("cannot tell the format of {}: it looks like none of {known}", source.display()))
    })
}

fn key_for(args: &ImportArgs) -> anyhow::Result<Key> {
    if let Some(path) = &args.subject_key {
        let key = SubjectKey::load(path).or_exit(Exit::Data)?;
        return Ok(Key { key, save_to: None, lasting: true });
    }
    let own = args.to.as_ref().map(|to| to.join("keys/subject.key"));
    match own {
        Some(path) if path.exists() => {
            let key = SubjectKey::load(&path).or_exit(Exit::Data)?;
            Ok(Key { key, save_to: None, lasting: true })
        }
        _ if args.dry_run => Ok(Key { key: passing_key(), save_to: None, lasting: false }),
        save_to => Ok(Key { key: SubjectKey::random().context("make a subject key")?, save_to, lasting: true }),
    }
}

/// For pseudonyms that are forgotten when the program ends. Constant, so that what is trained on them is repeatable.
pub(crate) fn passing_key() -> SubjectKey {
    SubjectKey::new(0, [0; 32])
}

/// Refuses a folder that holds another key's data set, or a damaged one, which may be another key's.
fn check_target(to: &Path, key: Option<&SubjectKey>) -> anyhow::Result<()> {
    if to.exists() && !to.is_dir() {
        return Err(bad_data(format!("{} is not a folder", to.display())));
    }
    if !Dataset::exists(to) {
        return Ok(());
    }
    let there = Dataset::load(to).context("look at the data set that is there").or_exit(Exit::Data)?;
    let Some(key) = key else { return Ok(()) };
    there.check_key(key).with_context(|| format!("replace the data set in {}", to.display())).or_exit(Exit::Data)
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}
