//! `cargo xtask reference`: `docs/configuration.md` from the services' settings, `docs/grpc-api.md` from the protos. Tests compare
//! what is committed with what would be written.

pub(crate) mod configuration;
mod grpc;

use anyhow::Context as _;
use std::path::Path;
use std::process::ExitCode;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let root = crate::root();
    for (file, text) in rendered(&root)? {
        let file = root.join(file);
        std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rendered(root: &Path) -> anyhow::Result<[(&'static str, String); 2]> {
    Ok([
        ("docs/configuration.md", configuration::rendered(root)?),
        ("docs/grpc-api.md", grpc::rendered(&root.join("proto"))?),
    ])
}

/// What is committed and is not what would be written.
pub(crate) fn stale(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut stale = Vec::new();
    for (file, text) in rendered(root)? {
        if std::fs::read_to_string(root.join(file)).unwrap_or_default() != text {
            stale.push(format!("{file}: is not what `cargo xtask reference` writes"));
        }
    }
    Ok(stale)
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    #[test]
    fn references_are_those_of_their_sources() {
        assert_eq!(super::stale(&crate::root()).unwrap(), [""; 0]);
    }
}
