//! Prometheus' programs, from Debian's `sid`.

use super::{Tool, check, debian, link, put, work_folder, write_script};
use std::path::Path;

const ALL: [Tool; 4] = [Tool::Promtool, Tool::Amtool, Tool::Prometheus, Tool::Alertmanager];

/// Debian's build reads its default templates from below `/usr/share`. They are shown to it there in a view of the file system
/// that only it has.
const ALERTMANAGER: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
if [ -e /usr/share/prometheus/alertmanager/default.tmpl ]; then
    exec "$here/usr/bin/prometheus-alertmanager" "$@"
fi
exec unshare --user --map-root-user --mount sh -c '
    mount -t overlay overlay -o "lowerdir=$0/usr/share:/usr/share" /usr/share &&
    exec "$0/usr/bin/prometheus-alertmanager" "$@"' "$here" "$@"
"#;

/// Those of `tools` that are among Prometheus' programs.
pub(super) fn install(folder: &Path, tools: &[Tool]) -> anyhow::Result<()> {
    let mut packages: Vec<_> = tools.iter().filter_map(|tool| package(*tool)).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let work = work_folder(folder)?;
    for archive in debian::download(work.path(), debian::Suite::Sid, &packages)? {
        let place = folder.join(format!("{}-{}", archive.package, archive.version));
        let unpacked = work.path().join(archive.package);
        debian::unpack(&archive, &unpacked)?;
        if package(Tool::Alertmanager) == Some(archive.package) {
            write_script(&unpacked.join("alertmanager"), ALERTMANAGER)?;
        }
        put(&unpacked, &place)?;
        for tool in ALL.into_iter().filter(|tool| package(*tool) == Some(archive.package)) {
            let target = match tool {
                Tool::Alertmanager => place.join("alertmanager"),
                _ => place.join("usr/bin").join(tool.name()),
            };
            check(&target, &["--version"])?;
            link(&target, &folder.join("bin").join(tool.name()))?;
        }
    }
    Ok(())
}

const fn package(tool: Tool) -> Option<&'static str> {
    match tool {
        Tool::Promtool => Some("promtool"),
        Tool::Prometheus => Some("prometheus"),
        Tool::Amtool | Tool::Alertmanager => Some("prometheus-alertmanager"),
        Tool::Redis | Tool::Kafka | Tool::Chdb => None,
    }
}
