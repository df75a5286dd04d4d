//! `attune eval`: quality figures with their protocol, beside what costs nothing.
//!
//! Always holds: what is held out is in no training data, no log and no state of what is measured; a figure names its
//! cases and its candidates, and stands beside random and popularity.

mod ranking;
mod retrieval;
mod served;
mod slates;
mod stream;
mod table;

use crate::fill::{self, Filling};
use crate::output::{bad_usage, note};
use crate::state::StateFolder;
use anyhow::Context as _;
use attune_dataset::{Dataset, World};
use attune_model::evaluation::{self, Split};
use attune_model::{Bundle, TrainConfig};
use attune_runtime::{Exit, OrExit as _, system_clock};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use stream::StreamOptions;

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(subcommand)]
    pub what: Eval,
}

#[derive(Debug, Subcommand)]
pub enum Eval {
    /// Whether the platform, asked over HTTP, finds what each visitor took next in the whole catalogue
    Retrieval(EvalOptions),
    /// Whether the ranking model puts what was clicked above what was not
    Ranking(EvalOptions),
    /// Whether the metrics of the event stream are true of the simulated world that the platform serves
    Stream(StreamOptions),
}

#[derive(Debug, Args)]
pub struct EvalOptions {
    /// A data set, or a folder that `attune import` understands; without it, the simulated world
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Seed of the simulated world
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Hold out the event before each visitor's last one, and the last: what settings are chosen on
    #[arg(long)]
    pub tune: bool,
    /// Settings of the platform: a table for each service
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep the trained state here, and start from it the next time [default: a passing folder]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Report as one line of JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &EvalArgs) -> anyhow::Result<()> {
    match &args.what {
        Eval::Retrieval(options) => retrieval::run(options),
        Eval::Ranking(options) => ranking::run(options),
        Eval::Stream(options) => stream::run(options),
    }
}

impl EvalOptions {
    /// Which of a visitor's last events is the question.
    fn back(&self) -> usize {
        if self.tune { 2 } else { 1 }
    }

    fn held_out(&self) -> &'static str {
        if self.tune { "last but one" } else { "last" }
    }
}

/// Where an evaluation trains and serves; gone afterwards unless it was named.
struct Workplace {
    state: StateFolder,
    passing: bool,
}

impl Workplace {
    fn open(options: &EvalOptions) -> anyhow::Result<Self> {
        Self::at(options.work.as_deref())
    }

    fn at(work: Option<&Path>) -> anyhow::Result<Self> {
        let (root, passing) = match work {
            Some(root) => (root.to_owned(), false),
            None => (std::env::temp_dir().join(format!("attune-eval-{}", std::process::id())), true),
        };
        Ok(Self { state: StateFolder::open(&root)?, passing })
    }

    /// Refuses a kept folder that was trained for another question, or marks a new one.
    fn claim(&self, question: &str) -> anyhow::Result<()> {
        let marker = self.state.root().join("EVAL");
        match std::fs::read_to_string(&marker) {
            Ok(text) if text.trim() == question => Ok(()),
            Ok(_) => Err(bad_usage(format!(
                "--work {} was made for other data or another split",
                self.state.root().display()
            ))),
            Err(_) if self.state.bundle().is_some() || self.state.filled_marker().exists() => {
                Err(bad_usage(format!("--work {} is a platform's state folder", self.state.root().display())))
            }
            Err(_) => std::fs::write(&marker, question).context("write EVAL").or_exit(Exit::TryLater),
        }
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if self.passing && std::fs::remove_dir_all(self.state.root()).is_err() {
            note(&format!("attune: {} could not be removed", self.state.root().display()));
        }
    }
}

/// The data to judge on, and the world it came from, if it did.
fn read(options: &EvalOptions, state: &StateFolder) -> anyhow::Result<(Dataset, Option<World>)> {
    match &options.data {
        Some(path) => Ok((fill::read(state, &Filling::Data(absolute(path)?), 0)?, None)),
        None => {
            // A kept folder must find the same world again, whose history ends at a given time.
            let filling = Filling::World { seed: options.seed };
            let world = fill::world(options.seed)?;
            let now = world.config().catalogue_at + WORLD_AGE;
            Ok((fill::read(state, &filling, now)?, Some(world)))
        }
    }
}

/// The simulated history ends this long after its catalogue was made.
const WORLD_AGE: i64 = 7 * 24 * 3_600_000;

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize().with_context(|| format!("cannot read {}", path.display())).or_exit(Exit::Data)
}

/// Splits the data, whose visitors get names that the edge can be asked for: `visitor-0` and so on under the folder's key.
fn split(options: &EvalOptions, state: &StateFolder, mut data: Dataset) -> anyhow::Result<Split> {
    let key = state.subject_key()?;
    data.users = (0..data.users.len()).map(|user| key.uid(&raw_id(user))).collect();
    data.key_fingerprint = key.fingerprint();
    let split = evaluation::leave_out(&data, options.back());
    if split.cases.is_empty() {
        let message =
            format!("no visitor of {} has the {} events that a question needs", data.name, options.back() + 1);
        return Err(crate::output::bad_data(message));
    }
    Ok(split)
}

/// Names what a kept folder was trained for.
fn question(data: &Dataset, options: &EvalOptions) -> String {
    format!("{} {} back {}", data.name, data.events.len(), options.back())
}

/// The folder's bundle, trained where there is none yet.
fn bundle(state: &StateFolder, train: &Dataset) -> anyhow::Result<Bundle> {
    if let Some(folder) = state.bundle() {
        return Bundle::load(&folder).context("read the bundle of --work").or_exit(Exit::Data);
    }
    fill::train(state, train, &TrainConfig { created_at: now(), ..TrainConfig::default() })
}

fn raw_id(user: usize) -> String {
    format!("visitor-{user}")
}

fn now() -> i64 {
    (system_clock())()
}
