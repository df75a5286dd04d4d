//! What an operator can set. `config.toml` is the manual.

use crate::budget::{Price, nano_dollars};
use crate::error::LlmError;
use crate::openai::{OpenAi, OpenAiOptions, TokenLimitField, completions_uri};
use crate::reason::{Backend, Limits};
use attune_config::{ByteSize, HumanDuration, Problems, Secret};
use attune_runtime::ProcessConfig;
use attune_telemetry::Name;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const DEFAULT_TOML: &str = include_str!("../config.toml");

const MAX_CONCURRENCY: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    Template,
    Openai,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmConfig {
    pub backend: BackendKind,
    pub openai: OpenAiConfig,
    pub cache: CacheConfig,
    pub budget: BudgetConfig,
    pub prices: BTreeMap<String, PriceConfig>,
    pub process: ProcessConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenAiConfig {
    pub base_url: String,
    pub model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    pub max_output_tokens: u32,
    pub token_limit_field: TokenLimitField,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    pub connect_timeout: HumanDuration,
    pub first_chunk_timeout: HumanDuration,
    pub total_timeout: HumanDuration,
    pub reserve: HumanDuration,
    pub concurrency: ConcurrencyConfig,
    pub breaker: BreakerConfig,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyConfig {
    pub calls: usize,
    pub waiting: usize,
    pub wait: HumanDuration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    pub failures: u32,
    pub open: HumanDuration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    pub size: ByteSize,
    pub ttl: HumanDuration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    pub daily_dollars: f64,
}

/// Dollars per million tokens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    pub input: f64,
    pub output: f64,
}

impl LlmConfig {
    pub fn check(&self, problems: &mut Problems) {
        let o = &self.openai;
        if let Err(e) = completions_uri(&o.base_url) {
            problems.add("openai.base_url", e.to_string());
        }
        problems.check(
            Name::new(&o.model).is_some(),
            "openai.model",
            "must be 1 to 64 characters: letters, digits and . _ : / -",
        );
        if self.backend == BackendKind::Openai {
            problems.check(self.prices.contains_key(&o.model), "prices", "has no line for openai.model");
        }
        problems.check((1..=4096).contains(&o.max_output_tokens), "openai.max_output_tokens", "must be 1 to 4096");
        problems.check(o.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "openai.temperature", "must be 0 to 2");
        for (key, value) in [
            ("openai.connect_timeout", o.connect_timeout),
            ("openai.first_chunk_timeout", o.first_chunk_timeout),
            ("openai.total_timeout", o.total_timeout),
            ("openai.breaker.open", o.breaker.open),
            ("cache.ttl", self.cache.ttl),
        ] {
            problems.check(!value.get().is_zero(), key, "must not be zero");
        }
        let c = &o.concurrency;
        problems.check((1..=MAX_CONCURRENCY).contains(&c.calls), "openai.concurrency.calls", "must be 1 to 4096");
        problems.check(c.waiting <= MAX_CONCURRENCY, "openai.concurrency.waiting", "must be at most 4096");
        problems.check(o.breaker.failures > 0, "openai.breaker.failures", "must not be zero");
        let amount = |x: f64| (0.0..=1e9).contains(&x);
        problems.check(amount(self.budget.daily_dollars), "budget.daily_dollars", "must be 0 to 1e9");
        for (model, price) in &self.prices {
            let fits = amount(price.input) && amount(price.output);
            problems.check(fits, &format!("prices.{model}"), "must be 0 to 1e9 dollars per million tokens");
        }
    }

    /// The back-end to ask, none for the template.
    pub fn backend(&self) -> Result<Option<Backend>, LlmError> {
        if self.backend == BackendKind::Template {
            return Ok(None);
        }
        let o = &self.openai;
        let api_key = o.api_key.as_ref().map(|key| String::from_utf8(key.expose().to_vec())).transpose();
        let generator = OpenAi::new(OpenAiOptions {
            base_url: o.base_url.clone(),
            model: o.model.clone(),
            api_key: api_key.map_err(|_| crate::openai::OpenAiError::ApiKey)?,
            max_output_tokens: o.max_output_tokens,
            temperature: o.temperature,
            token_limit_field: o.token_limit_field,
            connect_timeout: o.connect_timeout.get(),
        })?;
        let price = self.prices.get(&o.model).ok_or(LlmError::NoPrice)?;
        Ok(Some(Backend {
            generator: Box::new(generator),
            model: Name::new(&o.model).ok_or(LlmError::ModelName)?,
            price: Price::per_million(price.input, price.output),
            daily_budget: nano_dollars(self.budget.daily_dollars),
            limits: Limits {
                first_chunk: o.first_chunk_timeout.get(),
                total: o.total_timeout.get(),
                reserve: o.reserve.get(),
                concurrent: o.concurrency.calls,
                waiting: o.concurrency.waiting,
                wait: o.concurrency.wait.get(),
                cache_bytes: self.cache.size.0,
                cache_ttl: self.cache.ttl.get(),
                breaker_failures: o.breaker.failures,
                breaker_open: o.breaker.open.get(),
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attune_config::{ConfigError, load_checked};

    fn load(overrides: &[(&str, &str)]) -> Result<LlmConfig, ConfigError> {
        let overrides: Vec<_> = overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load_checked("llm", DEFAULT_TOML, None, &overrides, LlmConfig::check)
    }

    #[test]
    fn the_default_is_the_template_and_openai_needs_no_more_than_its_name() {
        assert!(load(&[]).unwrap().backend().unwrap().is_none());
        assert!(load(&[("backend", "openai")]).unwrap().backend().unwrap().is_some());
    }

    #[test]
    fn every_mistake_is_named() {
        let check = |key: &str, value: &str, want: &str| {
            let error = load(&[(key, value)]).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        };
        check("openai.base_url", "ftp://x", "openai.base_url: must begin with http:// or https://");
        check("openai.base_url", "http://u:p@x/v1", "openai.base_url: must name a host, and no user");
        check("openai.base_url", "http://x/v1?a=b", "openai.base_url: must not have a query");
        check("openai.model", "\"a b\"", "openai.model: must be");
        check("openai.max_output_tokens", "0", "openai.max_output_tokens: must be 1 to 4096");
        check("openai.temperature", "3.0", "openai.temperature: must be 0 to 2");
        check("openai.total_timeout", "0s", "openai.total_timeout: must not be zero");
        check("openai.concurrency.calls", "0", "openai.concurrency.calls: must be 1 to 4096");
        check("budget.daily_dollars", "-1.0", "budget.daily_dollars: must be 0 to 1e9");
        check("openai.color", "red", "color");
        let error = load(&[("backend", "openai"), ("openai.model", "gpt-x")]).unwrap_err().to_string();
        assert!(error.contains("prices: has no line for openai.model"), "{error}");
    }

    #[test]
    fn the_key_is_read_from_its_file_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "sk-canary\n").unwrap();
        let file = dir.path().join("llm.toml");
        std::fs::write(&file, format!("[openai]\napi_key = {{ file = {path:?} }}\n")).unwrap();
        let config: LlmConfig = load_checked("llm", DEFAULT_TOML, Some(&file), &[], LlmConfig::check).unwrap();
        assert_eq!(config.openai.api_key.as_ref().unwrap().expose(), b"sk-canary");
        assert!(!format!("{config:?}").contains("canary"));
        assert!(!attune_config::print_config(&config).unwrap().contains("canary"));
    }
}
