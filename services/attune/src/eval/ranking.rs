//! `attune eval ranking`: the ranking model alone.

use super::EvalOptions;

pub(super) fn run(_options: &EvalOptions) -> anyhow::Result<()> {
    Err(crate::output::bad_usage("not yet"))
}
