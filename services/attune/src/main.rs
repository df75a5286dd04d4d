//! The `attune` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    attune::cli::main()
}
