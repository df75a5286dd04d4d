//! The state folder: one place for everything a platform keeps.

use anyhow::{Context as _, bail};
use attune_config::Secret;
use attune_domain::UnixMillis;
use attune_identity::SubjectKey;
use attune_runtime::{Exit, OrExit as _};
use attune_telemetry::LogKey;
use std::path::{Path, PathBuf};

/// Version of the folder's layout; a folder of another is refused.
const FORMAT: u32 = 1;

/// Paths inside a state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// Creates the folder where there is none, and checks its format where there is one.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)
            .with_context(|| format!("create state folder {}", root.display()))
            .or_exit(Exit::TryLater)?;
        let root = root.canonicalize().with_context(|| format!("find state folder {}", root.display()))?;
        let format = root.join("FORMAT");
        match std::fs::read_to_string(&format) {
            Ok(text) if text.trim() == FORMAT.to_string() => {}
            Ok(text) => {
                let found: String = text.trim().chars().take(16).collect();
                return Err(anyhow::anyhow!(
                    "state folder {} has format {found:?}, this build reads {FORMAT}",
                    root.display()
                ))
                .or_exit(Exit::Data);
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                if std::fs::read_dir(&root)?.next().is_some() {
                    return Err(anyhow::anyhow!("{} is neither empty nor a state folder", root.display()))
                        .or_exit(Exit::Data);
                }
                std::fs::write(&format, format!("{FORMAT}\n")).context("write FORMAT")?;
            }
            Err(e) => bail!("read {}: {e}", format.display()),
        }
        Ok(Self { root })
    }

    /// The folder as it is, for looking at it only.
    pub(crate) fn existing(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// A folder that is there, its format checked.
    pub(crate) fn reopen(root: &Path) -> anyhow::Result<Self> {
        if !root.join("FORMAT").exists() {
            return Err(anyhow::anyhow!("{} is not a state folder", root.display())).or_exit(Exit::Data);
        }
        Self::open(root)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn subject_key_path(&self) -> PathBuf {
        self.root.join("keys/subject.key")
    }

    /// Keys the user hashes of logs and traces.
    pub(crate) fn log_key_path(&self) -> PathBuf {
        self.root.join("keys/log.key")
    }

    /// Event log and decision log, owned by the origin.
    pub(crate) fn origin(&self) -> PathBuf {
        self.root.join("origin")
    }

    pub(crate) fn event_log(&self) -> PathBuf {
        self.origin().join("events")
    }

    pub(crate) fn decision_log(&self) -> PathBuf {
        self.origin().join("decisions")
    }

    /// Feature store and posteriors, owned by the embedder.
    pub(crate) fn features(&self) -> PathBuf {
        self.root.join("embedder")
    }

    /// Checkpoints of the feature store.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    pub(crate) fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }

    /// The bundle that serves, if one was chosen.
    pub(crate) fn bundle(&self) -> Option<PathBuf> {
        let version = std::fs::read_to_string(self.bundles().join("live")).ok()?;
        let version = version.trim();
        let plain = !version.is_empty() && version.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| self.bundles().join(version)).filter(|dir| dir.is_dir())
    }

    /// Makes a bundle of this folder the one that serves.
    pub(crate) fn choose_bundle(&self, version: &str) -> anyhow::Result<()> {
        let live = self.bundles().join("live");
        let fresh = self.bundles().join("live.tmp");
        std::fs::write(&fresh, version).context("write the live bundle's version")?;
        std::fs::rename(&fresh, &live).context("choose the live bundle")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    pub(crate) fn traces(&self, service: &str) -> PathBuf {
        self.root.join("traces").join(format!("{service}.otlp.jsonl"))
    }

    /// Configuration and data of the tools of `up --observe`.
    pub(crate) fn observe(&self) -> PathBuf {
        self.root.join("observe")
    }

    /// Present once the folder was filled to the end.
    pub(crate) fn filled_marker(&self) -> PathBuf {
        self.root.join("FILLED")
    }

    /// Creates the key of user hashes where there is none, and overwrites one from which weeks follow that no longer
    /// live: from then on their hashes cannot be computed again.
    pub(crate) fn log_key(&self, now: UnixMillis) -> anyhow::Result<()> {
        let path = self.log_key_path();
        let key = match std::fs::read(&path) {
            Ok(bytes) => {
                let mut key = LogKey::parse(&Secret::new(bytes)).or_exit(Exit::Data)?;
                if !key.advance(now) {
                    return Ok(());
                }
                key
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut random = [0; 32];
                getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("the system gave no random bytes: {e}"))?;
                LogKey::fresh(random, LogKey::week_of(now))
            }
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", path.display())).or_exit(Exit::TryLater);
            }
        };
        replace_private(&path, key.encode().expose())
            .with_context(|| format!("write {}", path.display()))
            .or_exit(Exit::TryLater)
    }

    pub(crate) fn subject_key(&self) -> anyhow::Result<SubjectKey> {
        SubjectKey::load_or_create(&self.subject_key_path()).or_exit(Exit::Data)
    }
}

/// Replaces a file as a whole, readable by its owner only.
fn replace_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}
