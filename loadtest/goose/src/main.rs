//! Typed user journeys with goose: `attune-goose --host http://127.0.0.1:8080 --users 20 --run-time 60s`.
//!
//! Goose's users are a closed loop: whoever waits for an answer asks nothing meanwhile. It says whether journeys work, and
//! leaves the objectives on latency to the arrival rates of `loadtest/k6`. What is sent and what is read goes through the
//! types of `attune-domain`, so an answer that breaks the contract is a failure here.

mod journeys;
mod tally;
mod visitor;
mod wire;

use goose::prelude::*;
use std::process::ExitCode;
use std::sync::Arc;
use tally::Tally;

/// Of requests that may fail.
const ERRORS: f64 = 0.01;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            for failure in failures {
                eprintln!("attune-goose: {failure}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("attune-goose: {error}");
            ExitCode::from(64)
        }
    }
}

/// What was not as it should be. The last line of stdout tells what was sent, for those who look into the log.
async fn run() -> Result<Vec<String>, GooseError> {
    let tally = Arc::new(Tally::new());
    let mut attack = GooseAttack::initialize()?;
    for scenario in journeys::all(&tally)? {
        attack = attack.register_scenario(scenario);
    }
    let metrics = attack.execute().await?;
    let (sent, failed) = metrics
        .requests
        .values()
        .fold((0, 0), |(sent, failed), one| (sent + one.success_count + one.fail_count, failed + one.fail_count));
    println!("{}", tally.line(sent, failed));
    Ok(tally.failures(sent, failed, ERRORS))
}
