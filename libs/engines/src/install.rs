//! Where the engines' programs are, and what a test does where they are not.

use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};

/// What `cargo xtask tools` calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Redis,
    Kafka,
}

impl Engine {
    const fn name(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Kafka => "Kafka",
        }
    }

    const fn tool(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kafka => "kafka",
        }
    }

    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &["redis-server", "redis-cli"],
            Self::Kafka => &["kafka"],
        }
    }
}

/// Whether the engine is installed. Where it is not, says on stderr that `test` is skipped.
///
/// # Panics
/// Where it is not installed and `ATTUNE_REQUIRE_ENGINES` is `1`.
#[must_use]
pub fn available(engine: Engine, test: &str) -> bool {
    let Err(reason) = engine.programs().iter().try_for_each(|name| program(engine, name).map(drop)) else {
        return true;
    };
    assert!(!required(), "{test}: {reason:#}, and ATTUNE_REQUIRE_ENGINES asks for it");
    eprintln!("skipped: {test}: {reason:#}");
    false
}

fn required() -> bool {
    std::env::var_os("ATTUNE_REQUIRE_ENGINES").is_some_and(|value| value == "1")
}

pub(crate) fn program(engine: Engine, name: &str) -> anyhow::Result<PathBuf> {
    let path = folder()?.join("bin").join(name);
    ensure!(path.is_file(), "{} is not installed (cargo xtask tools {})", engine.name(), engine.tool());
    Ok(path)
}

fn folder() -> anyhow::Result<PathBuf> {
    let set = |key| std::env::var_os(key).filter(|value| !value.is_empty());
    if let Some(folder) = set("ATTUNE_TOOLS") {
        return std::path::absolute(folder).context("find the folder that ATTUNE_TOOLS names");
    }
    let home = set("HOME").context("neither ATTUNE_TOOLS nor HOME names a folder of tools")?;
    Ok(Path::new(&home).join(".cache/attune-tools"))
}
