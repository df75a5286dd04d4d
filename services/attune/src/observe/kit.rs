//! The kit's files, compiled in, so that an installed program has them too.

use anyhow::Context as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

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

/// Has the written copy look at targets and compute recorded series `every` so often. Expressions and the times of alerts
/// stay as they are.
pub(super) fn hasten(root: &Path, every: Duration) -> anyhow::Result<()> {
    let every = format!("{}s", every.as_secs().max(1));
    for (path, text) in FILES.iter().filter(|(path, _)| path.starts_with("prometheus/")) {
        let faster = |line: &str| {
            let (key, _) = line.split_once(": ")?;
            let is_interval =
                ["scrape_interval", "scrape_timeout", "evaluation_interval", "interval"].contains(&key.trim());
            is_interval.then(|| format!("{key}: {every}"))
        };
        let lines: Vec<String> = text.lines().map(|line| faster(line).unwrap_or_else(|| line.to_owned())).collect();
        fs::write(root.join(path), lines.join("\n") + "\n").with_context(|| format!("write {path} of the kit"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_intervals_are_hastened() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let read = || FILES.map(|(path, _)| fs::read_to_string(dir.path().join(path)).unwrap()).concat();
        let before = read();
        hasten(dir.path(), Duration::from_secs(2)).unwrap();
        let after = read();
        let changed: BTreeSet<String> =
            after.lines().zip(before.lines()).filter(|(a, b)| a != b).map(|(a, _)| a.trim().to_owned()).collect();
        let expected = ["evaluation_interval: 2s", "interval: 2s", "scrape_interval: 2s", "scrape_timeout: 2s"];
        assert_eq!(changed, BTreeSet::from(expected.map(str::to_owned)));
        assert_eq!(before.lines().count(), after.lines().count());
    }

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
