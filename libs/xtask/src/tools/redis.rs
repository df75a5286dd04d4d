//! Redis of the machine's own Debian release, with the libraries that a machine may be without.

use super::{check, debian, link, put, work_folder, write_script};
use std::path::Path;

pub(super) const PROGRAMS: [&str; 2] = ["redis-server", "redis-cli"];
const PACKAGES: [&str; 3] = ["redis-tools", "libjemalloc2", "liblzf1"];

/// The server is the same program as `redis-check-rdb`; the name it is called by decides.
const SERVER: &str = "usr/bin/redis-server";

const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-*)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$here/usr/bin/NAME" "$@"
"#;

pub(super) fn install(folder: &Path) -> anyhow::Result<()> {
    let work = work_folder(folder)?;
    let archives = debian::download(work.path(), debian::Suite::Own, &PACKAGES)?;
    let unpacked = work.path().join("redis");
    for archive in &archives {
        debian::unpack(archive, &unpacked)?;
    }
    if !unpacked.join(SERVER).exists() {
        link(Path::new("redis-check-rdb"), &unpacked.join(SERVER))?;
    }
    for program in PROGRAMS {
        write_script(&unpacked.join(program), &SCRIPT.replace("NAME", program))?;
        check(&unpacked.join(program), &["--version"])?;
    }
    let place = folder.join(format!("redis-{}", archives[0].version));
    put(&unpacked, &place)?;
    for program in PROGRAMS {
        link(&place.join(program), &folder.join("bin").join(program))?;
    }
    Ok(())
}
