//! Where a Redis is, and how long things live in it.

use crate::{MAX_PARTITIONS, StorageError};
use fred::types::config::{Config, ServerConfig};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The client would take any other for `redis`.
const SCHEMES: [&str; 6] =
    ["redis://", "rediss://", "redis-cluster://", "rediss-cluster://", "redis-sentinel://", "rediss-sentinel://"];
const DAY: Duration = Duration::from_secs(86_400);

/// What became of a command, for whoever counts.
pub trait RedisObserver: Send + Sync {
    /// `command` is one of [`crate::REDIS_COMMANDS`].
    fn answered(&self, command: &'static str, took: Duration, is_ok: bool);
}

/// Where the server is, and what the store holds it to.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, `redis-cluster://HOST:PORT?node=HOST:PORT...`,
    /// `redis-sentinel://HOST:PORT?sentinelServiceName=NAME`; with TLS `rediss` instead of `redis`.
    pub url: String,
    /// Holds the password, which then is not in the URL. A newline at its end does not count.
    pub password_file: Option<PathBuf>,
    /// What every key begins with; without braces.
    pub prefix: String,
    /// Of the log. Fixed for the life of a prefix.
    pub partitions: u16,
    /// For a read of states, fences, outcomes or progress.
    pub timeout: Duration,
    /// For a batch, and for what reads in bulk.
    pub write_timeout: Duration,
    /// For each step of opening.
    pub connect_timeout: Duration,
    /// How long a state is kept after it was last written.
    pub user_ttl: Duration,
    /// How long a fence is kept. It must outlive the log's retention: a record that comes after its fence was dropped
    /// would count again.
    pub fence_ttl: Duration,
    /// How long a day's outcomes are kept after the last of them: the outcome window and a margin.
    pub outcome_ttl: Duration,
    pub observer: Option<Arc<dyn RedisObserver>>,
}

impl RedisOptions {
    pub fn new(url: impl Into<String>, partitions: u16) -> Self {
        Self {
            url: url.into(),
            password_file: None,
            prefix: "attune:".to_owned(),
            partitions,
            timeout: Duration::from_millis(500),
            write_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(2),
            user_ttl: 180 * DAY,
            fence_ttl: 400 * DAY,
            outcome_ttl: 33 * DAY,
            observer: None,
        }
    }

    pub(super) fn check(&self) -> Result<(), StorageError> {
        if !(1..=MAX_PARTITIONS).contains(&self.partitions) {
            return Err(StorageError::invalid("partitions", format!("must be 1 to {MAX_PARTITIONS}")));
        }
        if self.prefix.contains(['{', '}']) {
            return Err(StorageError::invalid("prefix", "must not contain braces"));
        }
        for (field, ttl) in
            [("user_ttl", self.user_ttl), ("fence_ttl", self.fence_ttl), ("outcome_ttl", self.outcome_ttl)]
        {
            if ttl < Duration::from_secs(1) || ttl > 36_500 * DAY {
                return Err(StorageError::invalid(field, "must be a second to a hundred years"));
            }
        }
        Ok(())
    }

    /// What the client takes.
    pub(super) fn config(&self) -> Result<Config, StorageError> {
        // The client's own message may repeat the URL, and with it the password.
        let config = Config::from_url(&self.url).ok().filter(|_| SCHEMES.iter().any(|s| self.url.starts_with(s)));
        let mut config = config.ok_or_else(|| {
            StorageError::invalid("url", "must be redis://, redis-cluster:// or redis-sentinel://, with rediss for TLS")
        })?;
        if let Some(file) = &self.password_file {
            let password = std::fs::read_to_string(file)
                .map_err(|e| StorageError::invalid("password_file", format!("cannot read {}: {e}", file.display())))?;
            config.password = Some(password.trim_end_matches(['\r', '\n']).to_owned());
        }
        Ok(config)
    }
}

/// `HOST:PORT`, or several with commas between.
pub(super) fn address(server: &ServerConfig) -> String {
    let hosts: Vec<_> = server.hosts().iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
    hosts.join(",")
}

impl fmt::Debug for RedisOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Config::from_url(&self.url).map(|config| address(&config.server)).unwrap_or_default();
        f.debug_struct("RedisOptions")
            .field("address", &address)
            .field("prefix", &self.prefix)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
