//! Recording rules, alerts and scrape limits of Prometheus, against the catalogue and the dashboards.

use super::promql::{self, Known, Place};
use crate::dashboards::panel::Dashboard;
use anyhow::Context as _;
use attune_telemetry::Label as _;
use attune_telemetry::catalogue::{Service, worst_case};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) all: Vec<Rule>,
    pub(super) jobs: Vec<Job>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Rule {
    pub(super) alert: Option<String>,
    pub(super) record: Option<String>,
    pub(super) expr: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Job {
    pub(super) job_name: String,
    pub(super) sample_limit: Option<usize>,
}

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Configuration {
    scrape_configs: Vec<Job>,
}

impl Rules {
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let prometheus = root.join("observability/prometheus");
        let mut all = Vec::new();
        for file in listed(&prometheus.join("rules"), "yml")? {
            let RuleFile { groups } = parsed(&file)?;
            all.extend(groups.into_iter().flat_map(|group| group.rules));
        }
        let Configuration { scrape_configs } = parsed(&prometheus.join("prometheus.yml"))?;
        Ok(Self { all, jobs: scrape_configs })
    }

    pub(super) fn problems(&self, known: &Known) -> Vec<String> {
        let of = |rule: &Rule| {
            let (name, place) = match (&rule.alert, &rule.record) {
                (Some(alert), _) => (alert.clone(), Place::Alert),
                (None, Some(record)) => (record.clone(), Place::Recording(record)),
                (None, None) => return vec!["a rule neither records nor alerts".to_owned()],
            };
            let problems = promql::problems(&rule.expr, place, known);
            problems.into_iter().map(|problem| format!("{name}: {problem}")).collect()
        };
        self.all.iter().flat_map(of).collect()
    }

    /// Alerts that lead to no panel.
    pub(super) fn without_panel(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let alerts = self.all.iter().filter_map(|rule| Some((rule.alert.as_ref()?, &rule.annotations)));
        let lost = alerts.filter_map(|(alert, annotations)| {
            let annotation = |key: &str| annotations.get(key).map_or("", String::as_str);
            let (dashboard, panel) = (annotation("dashboard"), annotation("panel"));
            let live =
                dashboards.iter().any(|one| one.name == dashboard && one.panels().any(|found| found.title == panel));
            (!live).then(|| format!("{alert}: dashboard {dashboard:?} has no panel {panel:?}"))
        });
        lost.collect()
    }

    /// A scrape is refused at twice the worst case: at less, a sound process could be refused.
    pub(super) fn scrape_limits(&self) -> Vec<String> {
        let limits = self.jobs.iter().filter_map(|job| {
            let services = match Service::of(&job.job_name) {
                Some(service) => vec![service],
                None if job.job_name == "attune" => Service::all().to_vec(),
                None => return None,
            };
            let wanted = 2 * worst_case(&services);
            let limit = job.sample_limit.unwrap_or(0);
            (limit < wanted).then(|| format!("job {}: sample_limit {limit} is below {wanted}", job.job_name))
        });
        limits.collect()
    }
}

pub(super) fn listed(folder: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort_unstable();
    Ok(files)
}

pub(super) fn parsed<T: DeserializeOwned>(file: &Path) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("parse {}", file.display()))
}
