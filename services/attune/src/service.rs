//! One service as a process of its own, out of the one binary.

use attune_runtime::{Exit, Program, run_with};
use clap::Args;
use std::ffi::OsString;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub struct ServiceArgs {
    pub(crate) name: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

macro_rules! program {
    ($name:literal, $config:ty, $defaults:expr, $check:path) => {
        Program {
            name: $name,
            version: env!("CARGO_PKG_VERSION"),
            default_config: $defaults,
            process: |config: &$config| &config.process,
            check: $check,
            descriptors: attune_proto::DESCRIPTORS,
        }
    };
}

pub(crate) fn run(args: ServiceArgs) -> ExitCode {
    let arguments = std::iter::once(OsString::from(&args.name)).chain(args.arguments);
    match args.name.as_str() {
        "edge" => {
            use attune_edge::{DEFAULT_CONFIG, EdgeConfig, own};
            run_with(arguments, program!("edge", EdgeConfig, DEFAULT_CONFIG, EdgeConfig::check), own::service)
        }
        "origin" => {
            use attune_origin::{DEFAULT_CONFIG, OriginConfig, own};
            run_with(arguments, program!("origin", OriginConfig, DEFAULT_CONFIG, OriginConfig::check), own::service)
        }
        "retrieval" => {
            use attune_retrieval::{DEFAULTS, RetrievalConfig, own};
            let program = program!("retrieval", RetrievalConfig, DEFAULTS, RetrievalConfig::validate);
            run_with(arguments, program, own::service)
        }
        "ranking" => {
            use attune_ranking::{DEFAULTS, RankingConfig, own};
            run_with(arguments, program!("ranking", RankingConfig, DEFAULTS, RankingConfig::validate), own::service)
        }
        "bandit" => {
            use attune_bandit::{BanditConfig, DEFAULTS, own};
            run_with(arguments, program!("bandit", BanditConfig, DEFAULTS, BanditConfig::validate), own::service)
        }
        "llm" => {
            use attune_llm::{LlmConfig, build, config::DEFAULT_TOML};
            run_with(arguments, program!("llm", LlmConfig, DEFAULT_TOML, LlmConfig::check), build)
        }
        "embedder" => {
            use attune_embedder::{DEFAULTS, EmbedderConfig, own};
            run_with(arguments, program!("embedder", EmbedderConfig, DEFAULTS, EmbedderConfig::check), own::service)
        }
        _ => {
            let names = crate::settings::SERVICES.join(", ");
            crate::output::note(&format!("attune: the services are {names}"));
            ExitCode::from(Exit::Usage as u8)
        }
    }
}
