//! One configuration for the whole platform: a table for each service, on top of the services' own defaults.

use anyhow::Context as _;
use attune_bandit::BanditConfig;
use attune_config::Problems;
use attune_edge::EdgeConfig;
use attune_embedder::EmbedderConfig;
use attune_llm::LlmConfig;
use attune_origin::OriginConfig;
use attune_ranking::RankingConfig;
use attune_retrieval::RetrievalConfig;
use attune_runtime::{Exit, OrExit as _, ReservedPort};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Every service's settings.
pub(crate) struct Settings {
    pub(crate) edge: EdgeConfig,
    pub(crate) origin: OriginConfig,
    pub(crate) retrieval: RetrievalConfig,
    pub(crate) ranking: RankingConfig,
    pub(crate) bandit: BanditConfig,
    pub(crate) llm: LlmConfig,
    pub(crate) embedder: EmbedderConfig,
}

pub(crate) const SERVICES: [&str; 7] = ["edge", "origin", "retrieval", "ranking", "bandit", "llm", "embedder"];

/// Overrides of each service's defaults, from the tables of `--config FILE`.
pub(crate) struct Tables {
    services: toml::Table,
    /// Ports that they name, kept free for whom they name them to.
    ports: Vec<ReservedPort>,
}

impl Tables {
    pub(crate) fn read(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self { services: toml::Table::new(), ports: Vec::new() }) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("read config file {}", file.display()))
            .or_exit(Exit::Usage)?;
        let mut tables: toml::Table =
            text.parse().with_context(|| format!("read config file {}", file.display())).or_exit(Exit::Usage)?;
        let engines = tables.remove("engines");
        for (name, value) in &tables {
            if !SERVICES.contains(&name.as_str()) || !value.is_table() {
                return Err(anyhow::anyhow!(
                    "{}: {name} is not a service's table; the services are {}",
                    file.display(),
                    SERVICES.join(", ")
                ))
                .or_exit(Exit::Usage);
            }
        }
        let mut tables = Self { services: tables, ports: Vec::new() };
        if let Some(engines) = engines {
            // One table for all who open engines, beside which each may have its own.
            let mut pairs = Vec::new();
            flatten("engines", &engines, &mut pairs);
            for service in ["origin", "embedder"] {
                for (key, value) in &pairs {
                    tables.default(service, key, value.clone());
                }
            }
        }
        Ok(tables)
    }

    /// An address with a free port, which stays free until a server takes it.
    pub(crate) fn reserve(&mut self, ip: IpAddr) -> anyhow::Result<SocketAddr> {
        let port = ReservedPort::reserve(ip)?;
        let address = port.address();
        self.ports.push(port);
        Ok(address)
    }

    /// Sets a key unless the file says otherwise.
    pub(crate) fn default(&mut self, service: &str, key: &str, value: impl Into<toml::Value>) {
        self.put(service, key, value.into(), false);
    }

    /// Sets a key whatever the file says.
    pub(crate) fn set(&mut self, service: &str, key: &str, value: impl Into<toml::Value>) {
        self.put(service, key, value.into(), true);
    }

    fn put(&mut self, service: &str, key: &str, value: toml::Value, replace: bool) {
        let table = self.services.entry(service).or_insert_with(|| toml::Table::new().into());
        let mut path = key.split('.').peekable();
        let mut at = table;
        while let (Some(part), toml::Value::Table(inner)) = (path.next(), at) {
            if path.peek().is_none() {
                if replace || !inner.contains_key(part) {
                    inner.insert(part.to_owned(), value);
                }
                return;
            }
            at = inner.entry(part).or_insert_with(|| toml::Table::new().into());
        }
    }

    /// `key=value` pairs of a service, as its own `--set` takes them.
    pub(crate) fn overrides(&self, service: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        if let Some(table) = self.services.get(service) {
            flatten("", table, &mut pairs);
        }
        pairs
    }

    fn load<C: DeserializeOwned + Serialize>(
        &self,
        service: &str,
        defaults: &str,
        check: impl Fn(&C, &mut Problems),
    ) -> anyhow::Result<C> {
        attune_config::load_checked(service, defaults, None, &self.overrides(service), check).or_exit(Exit::Usage)
    }

    /// Every service's settings; a problem in any of them refuses them all before a port opens.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings {
            edge: self.load("edge", attune_edge::DEFAULT_CONFIG, EdgeConfig::check)?,
            origin: self.load("origin", attune_origin::DEFAULT_CONFIG, OriginConfig::check)?,
            retrieval: self.load("retrieval", attune_retrieval::DEFAULTS, RetrievalConfig::validate)?,
            ranking: self.load("ranking", attune_ranking::DEFAULTS, RankingConfig::validate)?,
            bandit: self.load("bandit", attune_bandit::DEFAULTS, BanditConfig::validate)?,
            llm: self.load("llm", attune_llm::config::DEFAULT_TOML, LlmConfig::check)?,
            embedder: self.load("embedder", attune_embedder::DEFAULTS, EmbedderConfig::check)?,
        })
    }
}

fn flatten(prefix: &str, value: &toml::Value, pairs: &mut Vec<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, pairs);
            }
        }
        toml::Value::String(text) => pairs.push((prefix.to_owned(), text.clone())),
        other => pairs.push((prefix.to_owned(), other.to_string())),
    }
}
