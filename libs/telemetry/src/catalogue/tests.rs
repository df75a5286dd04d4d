use super::*;
use std::collections::BTreeSet;

/// Every metric of the spec's definitions, after the rulings on names (`_total` on counters, recording rules for what
/// cannot be averaged).
const SPEC: &str = "
    personalization_requests_total personalization_request_duration_seconds personalization_clicks_total
    personalization_conversions_total personalization_engagement_seconds_total personalization_catalog_coverage_ratio
    personalization_diversity_score personalization_novelty_ratio personalization_freshness_ratio
    personalization_exploration_rate personalization_exploration_reward_total personalization_exploitation_reward_total
    edge_requests_total edge_errors_total edge_latency_seconds edge_cache_size_bytes
    api_requests_total api_errors_total api_latency_seconds api_concurrent_requests
    retrieval_requests_total retrieval_errors_total retrieval_latency_seconds
    ranking_requests_total ranking_errors_total ranking_latency_seconds
    bandit_requests_total bandit_errors_total bandit_latency_seconds
    llm_requests_total llm_errors_total llm_latency_seconds
    cpu_usage_percent cpu_throttle_seconds_total memory_usage_bytes memory_oom_kills_total memory_errors_total
    gpu_utilization_percent gpu_memory_used_bytes gpu_errors_total
    network_bytes_total network_queue_length network_errors_total disk_usage_percent disk_io_wait disk_errors_total
    streaming_events_processed_total streaming_lag_seconds streaming_checkpoint_duration_seconds
    streaming_state_size_bytes vectordb_queries_total vectordb_latency_seconds vectordb_health_status
    redis_commands_total redis_latency_seconds redis_memory_used_bytes kafka_consumer_lag
    embedding_freshness_seconds embedding_staleness_rate embedding_coverage_ratio embedding_drift_score
    bandit_cumulative_regret bandit_exploration_rate bandit_posterior_uncertainty bandit_arm_pull_distribution_gini
    bandit_cold_item_coverage_ratio model_ndcg_score model_recall_score model_confidence_score
    model_feature_drift_score model_inference_latency_seconds llm_invocation_rate llm_cache_hit_rate
    llm_response_tokens llm_quality_score llm_cost_dollars_total";

#[test]
fn the_spec_is_in_it() {
    let known: BTreeSet<&str> = all().map(|metric| metric.name).collect();
    let missing: Vec<&str> = SPEC.split_whitespace().filter(|name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn entries_follow_the_conventions() {
    let mut exposed = BTreeSet::new();
    for metric in all() {
        let name = metric.name;
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        let help = metric.help;
        assert!(
            help.ends_with('.') && help.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()),
            "{name}: {help}"
        );
        assert!(!metric.services.is_empty(), "nobody registers {name}");
        let unit = match metric.unit {
            Unit::Seconds => name.contains("_seconds"),
            Unit::Bytes => name.contains("_bytes"),
            Unit::Percent => name.ends_with("_percent"),
            Unit::UnixTime => name.ends_with("_seconds"),
            Unit::Dollars => name.contains("_dollars"),
            Unit::MinorUnits => name.contains("_minor_units"),
            Unit::Ratio | Unit::Count | Unit::Flag | Unit::Score => !name.ends_with("_seconds"),
        };
        assert!(unit, "{name} is in {}", metric.unit.text());
        if let Kind::Histogram(bounds) = metric.kind {
            assert!(bounds.is_sorted() && !bounds.is_empty(), "{name}");
        }
        let labels: BTreeSet<&str> = metric.labels.iter().map(|label| label.name).collect();
        assert_eq!(labels.len(), metric.labels.len(), "{name} has a label twice");
        assert!(labels.is_disjoint(&BTreeSet::from(["le", "quantile", "job", "instance", "service"])), "{name}");
        for label in metric.labels {
            let values = label.closed().unwrap_or_default();
            let distinct: BTreeSet<&str> = values.iter().copied().collect();
            assert_eq!(distinct.len(), values.len(), "{name}{{{}}} has a value twice", label.name);
            assert!(label.cardinality() > 0, "{name}{{{}}} can have no value", label.name);
        }
        for series in metric.exposed() {
            assert_eq!(exposing(&series).map(|metric| metric.name), Some(name), "{series}");
            assert!(exposed.insert(series), "{name} exposes a series of another metric");
        }
    }
    assert!(exposing("edge_latency_seconds").is_none(), "a histogram has no series of its bare name");
    assert!(exposing("edge_latency_seconds_samples").is_none());
}

/// A process of one service stays small enough to scrape often.
#[test]
fn the_worst_case_is_bounded() {
    for service in EVERY {
        let most = worst_case(&[*service]);
        println!("{}: {most}", service.text());
        assert!(most <= 3_000, "{} can have {most} series", service.text());
    }
    println!("all in one process: {}", worst_case(EVERY));
}
