//! The kit's files, compiled in, so that an installed program has them too.

use anyhow::Context as _;
use std::fs;
use std::path::Path;

macro_rules! kit {
    ($($path:literal),+ $(,)?) => {
        [$(($path, include_str!(concat!("../../../../observability/", $path)))),+]
    };
}

const FILES: [(&str, &str); 12] = kit![
    "alertmanager/alertmanager.yml",
    "alertmanager/templates/attune.tmpl",
    "jaeger/jaeger.yaml",
    "prometheus/prometheus.yml",
    "prometheus/rules/contract.yml",
    "prometheus/rules/critical.yml",
    "prometheus/rules/info.yml",
    "prometheus/rules/models.yml",
    "prometheus/rules/recording.yml",
    "prometheus/rules/slo.yml",
    "prometheus/rules/telemetry.yml",
    "prometheus/rules/warning.yml",
];

/// Folders that hold nothing but what is written here.
const OURS: [&str; 3] = ["alertmanager/templates", "prometheus/rules", "prometheus/targets"];

/// Replaces what an earlier start, or an earlier version, wrote. Data of the tools stays.
pub(super) fn write(root: &Path) -> anyhow::Result<()> {
    for folder in OURS.map(|folder| root.join(folder)) {
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    fs::create_dir_all(root.join("jaeger")).context("create a folder for Jaeger")?;
    for (path, text) in FILES {
        fs::write(root.join(path), text).with_context(|| format!("write {path} of the kit"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_of_the_kit_is_left_out() {
        let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../observability");
        let has: BTreeSet<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        for folder in ["alertmanager/templates", "jaeger", "prometheus/rules"] {
            for entry in fs::read_dir(kit.join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
                assert!(has.contains(&path), "{path} is not compiled in");
            }
        }
    }
}
