//! The control group that the process is in, in either version of the interface.

use super::{Kernel, after};

/// What the two versions say in different files.
#[derive(Debug, Clone)]
pub(super) struct Group {
    kernel: Kernel,
    cpu: Option<Folder>,
    memory: Option<Folder>,
}

#[derive(Debug, Clone)]
struct Folder {
    path: String,
    version: Version,
}

#[derive(Debug, Clone, Copy)]
enum Version {
    One,
    Two,
}

const ROOT: &str = "sys/fs/cgroup";
/// Version 1 says "no limit" with the largest number of pages.
const NO_LIMIT: f64 = (1u64 << 60) as f64;

impl Group {
    pub(super) fn find(kernel: &Kernel) -> Self {
        let of = |controller| Folder::find(kernel, controller);
        Self { kernel: kernel.clone(), cpu: of("cpu"), memory: of("memory") }
    }

    /// Seconds for which the group was held back; None when no quota can be set.
    pub(super) fn throttled(&self) -> Option<f64> {
        let folder = self.cpu.as_ref()?;
        let stat = self.kernel.text(&format!("{}/cpu.stat", folder.path))?;
        match folder.version {
            Version::One => Some(after(&stat, "throttled_time")? / 1e9),
            Version::Two => Some(after(&stat, "throttled_usec")? / 1e6),
        }
    }

    /// CPUs that the quota is worth; None without one.
    pub(super) fn cpus(&self) -> Option<f64> {
        let folder = self.cpu.as_ref()?;
        let path = &folder.path;
        let (quota, period) = match folder.version {
            Version::One => {
                let number = |file| self.kernel.number(&format!("{path}/{file}"));
                (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
            }
            Version::Two => {
                let text = self.kernel.text(&format!("{path}/cpu.max"))?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse().ok()?, period.parse().ok()?)
            }
        };
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    }

    pub(super) fn memory_limit(&self) -> Option<f64> {
        let folder = self.memory.as_ref()?;
        let file = match folder.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        self.kernel.number(&format!("{}/{file}", folder.path)).filter(|limit| *limit < NO_LIMIT)
    }

    pub(super) fn oom_kills(&self) -> Option<f64> {
        let folder = self.memory.as_ref()?;
        let file = match folder.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        after(&self.kernel.text(&format!("{}/{file}", folder.path))?, "oom_kill")
    }
}

impl Folder {
    /// By `/proc/self/cgroup`. Inside a container the group is mounted as the root, and its path leads nowhere.
    fn find(kernel: &Kernel, controller: &str) -> Option<Self> {
        let text = kernel.text("proc/self/cgroup")?;
        let lines = text.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            Some((fields.next()?, fields.next()?, fields.next()?.trim_matches('/')))
        });
        let mut found = None;
        for (_, controllers, path) in lines {
            if controllers.is_empty() {
                let unified = |path: &str| {
                    let has = kernel.path(&format!("{path}/{controller}.stat")).exists();
                    has.then(|| Self { path: path.to_owned(), version: Version::Two })
                };
                found = found.or_else(|| unified(&format!("{ROOT}/{path}"))).or_else(|| unified(ROOT));
            } else if controllers.split(',').any(|one| one == controller) {
                let mounts = [controllers, controller].map(|mount| format!("{ROOT}/{mount}"));
                let candidates = mounts.iter().flat_map(|mount| [format!("{mount}/{path}"), mount.clone()]);
                let file = if controller == "cpu" { "cpu.stat" } else { "memory.limit_in_bytes" };
                let mut there = candidates.filter(|path| kernel.path(&format!("{path}/{file}")).exists());
                // A controller that version 1 holds is not in version 2.
                return there.next().map(|path| Self { path, version: Version::One });
            }
        }
        found
    }
}
