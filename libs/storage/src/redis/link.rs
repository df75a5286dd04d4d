//! A connection that answers within its deadline, or says that it cannot.
//!
//! - While disconnected a command fails at once; the connection comes back by itself, after 10 to 200 ms.
//! - After a few timeouts in a row the connection is given up: a frozen server keeps it open and answers nothing.
//! - A command that timed out may still be carried out. Whoever writes must be able to bear that.

use super::options::{RedisObserver, RedisOptions, address};
use crate::StorageError;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::ClientLike as _;
use fred::types::config::{Config, Options, ReconnectPolicy, Server};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const MAX_TIMEOUTS: u32 = 3;
/// For a handshake on a connection that is to come back.
const RECONNECT_TIMEOUT: Duration = Duration::from_millis(200);
const MAX_WAITING: usize = 4_096;

/// A script, by its name among what is counted.
pub(super) struct Script {
    text: &'static str,
    sha: String,
}

impl Script {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text, sha: fred::util::sha1_hash(text) }
    }
}

pub(super) struct Link {
    client: Client,
    options: Options,
    timeouts: AtomicU32,
    observer: Option<Arc<dyn RedisObserver>>,
    address: String,
}

/// What builds clients of a server.
pub(super) fn builder(config: &Config, handshake: Duration) -> Builder {
    let mut builder = Builder::from_config(config.clone());
    builder.with_connection_config(|c| {
        (c.connection_timeout, c.internal_command_timeout) = (handshake, handshake);
        c.max_command_buffer_len = MAX_WAITING;
        c.tcp.nodelay = Some(true);
    });
    builder
}

impl Link {
    /// Tries once, so that what is wrong can be told.
    pub(super) async fn probe(options: &RedisOptions) -> Result<Self, StorageError> {
        let config = Config { fail_fast: true, ..options.config()? };
        let client = builder(&config, options.connect_timeout).build();
        Self::start(client, &config, options, options.connect_timeout).await
    }

    /// Stays connected from here on.
    pub(super) async fn open(options: &RedisOptions, timeout: Duration) -> Result<Self, StorageError> {
        let config = Config { fail_fast: false, ..options.config()? };
        let mut builder = builder(&config, RECONNECT_TIMEOUT);
        let mut policy = ReconnectPolicy::new_exponential(0, 10, 200, 2);
        policy.set_jitter(10);
        Self::start(builder.set_policy(policy).build(), &config, options, timeout).await
    }

    async fn start(
        client: Result<Client, Error>,
        config: &Config,
        options: &RedisOptions,
        timeout: Duration,
    ) -> Result<Self, StorageError> {
        let address = address(&config.server);
        let failed = |e: &Error| StorageError::Connect { address: address.clone(), reason: reason(e) };
        let client = client.map_err(|e| failed(&e))?;
        let expected = if config.uses_rustls() { "answer by TLS" } else { "answer" };
        let started = tokio::time::timeout(options.connect_timeout, client.init()).await;
        let error = match started {
            Ok(Ok(_)) => None,
            Ok(Err(e)) => Some(failed(&e)),
            Err(_) => Some(StorageError::Connect {
                address: address.clone(),
                reason: format!("no {expected} within {:?}", options.connect_timeout),
            }),
        };
        let link = Self {
            client,
            options: Options { timeout: Some(timeout), max_attempts: Some(1), fail_fast: true, ..Options::default() },
            timeouts: AtomicU32::new(0),
            observer: options.observer.clone(),
            address,
        };
        error.map_or(Ok(link), Err)
    }

    /// Asks whoever has the slot.
    pub(super) async fn ask(&self, command: &'static str, slot: u16, args: Vec<Value>) -> Result<Value, StorageError> {
        self.send(command, slot, args, &self.options).await.map_err(|e| self.error(&e))
    }

    /// Asks one node of a cluster.
    pub(super) async fn ask_node(
        &self,
        node: &Server,
        command: &'static str,
        args: Vec<Value>,
    ) -> Result<Value, StorageError> {
        let cluster_node = self.client.is_clustered().then(|| node.clone());
        let options = Options { cluster_node, ..self.options.clone() };
        self.send(command, 0, args, &options).await.map_err(|e| self.error(&e))
    }

    pub(super) fn nodes(&self) -> Vec<Server> {
        self.client.active_connections()
    }

    /// Runs a script on the keys that begin with `base`. A server that does not have it gets it.
    pub(super) async fn run(
        &self,
        script: &Script,
        slot: u16,
        base: Value,
        args: Vec<Value>,
    ) -> Result<Value, StorageError> {
        let mut all = vec![Value::from(script.sha.as_str()), Value::from(1), base];
        all.extend(args);
        match self.send("EVALSHA", slot, all.clone(), &self.options).await {
            Err(e) if e.details().starts_with("NOSCRIPT") => {
                all[0] = Value::from_static_str(script.text);
                self.ask("EVAL", slot, all).await
            }
            answer => answer.map_err(|e| self.error(&e)),
        }
    }

    async fn send(
        &self,
        command: &'static str,
        slot: u16,
        args: Vec<Value>,
        options: &Options,
    ) -> Result<Value, Error> {
        let began = Instant::now();
        // Not by the client's own method for scripts: that one waits for each answer before it sends the next.
        let custom = CustomCommand::new_static(command, ClusterHash::Custom(slot), false);
        let answer: Result<Value, Error> = self.client.with_options(options).custom(custom, args).await;
        if let Some(observer) = &self.observer {
            observer.answered(command, began.elapsed(), answer.is_ok());
        }
        match &answer {
            Err(e) if *e.kind() == ErrorKind::Timeout => {
                if (self.timeouts.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(MAX_TIMEOUTS) {
                    let client = self.client.clone();
                    // What it answers is no news: commands say whether there is a connection.
                    tokio::spawn(async move { client.force_reconnection().await });
                }
            }
            _ => self.timeouts.store(0, Ordering::Relaxed),
        }
        answer
    }

    fn error(&self, error: &Error) -> StorageError {
        const PASSING: [&str; 8] =
            ["LOADING", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "TRYAGAIN", "BUSY", "MISCONF", "NOREPLICAS"];
        let details = error.details();
        match error.kind() {
            ErrorKind::Auth => StorageError::Connect { address: self.address.clone(), reason: reason(error) },
            ErrorKind::Backpressure => StorageError::Overloaded,
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Routing
            | ErrorKind::Cluster
            | ErrorKind::Sentinel
            | ErrorKind::Tls => StorageError::Unavailable,
            // Memory is at its bound, and nothing was written.
            _ if details.starts_with("OOM") => StorageError::Overloaded,
            // How the client tells, without a kind, that the connection went between two commands.
            _ if details.starts_with("Failed to route command") => StorageError::Unavailable,
            _ if PASSING.iter().any(|word| details.starts_with(word)) => StorageError::Unavailable,
            _ => StorageError::Io(format!("redis: {}", reason(error))),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let client = self.client.clone();
            // Nobody is left to hear how it went.
            runtime.spawn(async move { client.quit().await });
        }
    }
}

/// In one line.
fn reason(error: &Error) -> String {
    let text = error.details().split_whitespace().collect::<Vec<_>>().join(" ");
    // The client shows an i/o error as Rust does.
    let text = match text.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"')) {
        Some((message, _)) => message.to_owned(),
        None => text,
    };
    match error.kind() {
        ErrorKind::Auth | ErrorKind::Tls => format!("{}: {text}", error.kind().to_str()),
        _ => text,
    }
}
