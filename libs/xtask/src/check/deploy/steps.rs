//! The steps of a check: each is run and timed, and one that fails does not keep the next ones away.

use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Steps {
    done: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    took: Duration,
    /// What was seen, or why it is wrong.
    outcome: Result<String, String>,
}

impl Steps {
    /// `Some` of what the step gave, `None` where it failed: then what builds on it is left out by the caller.
    pub(super) fn take<T>(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<(T, String)>) -> Option<T> {
        eprintln!("{name} ...");
        let begun = Instant::now();
        let (given, outcome) = match step() {
            Ok((given, seen)) => (Some(given), Ok(seen)),
            Err(error) => (None, Err(format!("{error:#}"))),
        };
        if let Err(reason) = &outcome {
            eprintln!("{name} FAILED: {reason}");
        }
        self.done.push(Step { name: name.to_owned(), took: begun.elapsed(), outcome });
        given
    }

    /// A step whose success is all that later ones need.
    pub(super) fn check(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<String>) {
        let _done: Option<()> = self.take(name, || step().map(|seen| ((), seen)));
    }

    /// The table of all steps; the failures have said their reasons before.
    pub(super) fn report(self) -> anyhow::Result<ExitCode> {
        let width = self.done.iter().map(|step| step.name.len()).max().unwrap_or(0);
        let mut failed = 0;
        for Step { name, took, outcome } in &self.done {
            let seconds = took.as_secs_f64();
            let (word, seen) = match outcome {
                Ok(seen) => ("ok", seen.as_str()),
                Err(reason) => {
                    failed += 1;
                    ("FAILED", reason.lines().next().unwrap_or_default())
                }
            };
            crate::print(&format!("{name:<width$}  {seconds:>7.1} s  {word:<6}  {seen}\n"))?;
        }
        crate::print(&format!("{} steps, {failed} failed\n", self.done.len()))?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
