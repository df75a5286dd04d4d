use super::promql::{Place, problems as of_query};
use super::rules::{Job, Rule, Rules};
use super::*;
use std::collections::BTreeSet;

#[test]
fn the_checkout_is_tidy() {
    let problems = problems(&crate::root()).unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn known() -> Known {
    let rule = |record: &str| Rule { record: Some(record.into()), expr: "vector(1)".into(), ..Rule::default() };
    Known::new(&Rules { all: vec![rule("region:edge_requests:rate5m")], jobs: Vec::new() })
}

#[track_caller]
fn accepts(place: Place<'_>, expr: &str) {
    assert_eq!(of_query(expr, place, &known()), Vec::<String>::new(), "{expr}");
}

#[track_caller]
fn refuses(place: Place<'_>, expr: &str, why: &str) {
    let problems = of_query(expr, place, &known());
    assert!(problems.iter().any(|problem| problem.contains(why)), "{expr}: {why:?} is not among {problems:?}");
}

#[test]
fn sound_queries_pass() {
    for expr in [
        r#"sum by (pop) (rate(edge_requests_total{cache="hit", pop=~"$pop", job=~"$job"}[$__rate_interval]))"#,
        "histogram_quantile(0.95, sum by (le, endpoint) (rate(api_latency_seconds_bucket[$__rate_interval])))",
        "sum(increase(llm_cost_dollars_total[1d]))",
        "region:edge_requests:rate5m * on (anything) group_left (whatever) up",
        "bandit_cumulative_regret_ci_low > 0.15 and bandit_cumulative_regret_samples >= 1500",
    ] {
        accepts(Place::Dashboard, expr);
    }
    accepts(Place::Alert, "group by (region) (up == 1) unless on (region) edge_requests_total");
    accepts(Place::Alert, "sum by (metric) (telemetry_metric_conflicts_total) > 0");
    accepts(Place::Alert, "sum(rate(api_requests_total{status_code=~\"5..\"}[5m])) > 1");
    accepts(Place::Alert, r#"group by (__name__) ({__name__=~"(bandit|model)_.+_samples"})"#);
    accepts(Place::Recording("memory_oom_kills"), "memory_oom_kills_total");
}

#[test]
fn what_the_catalogue_does_not_know_is_refused() {
    for (expr, why) in [
        ("sum(rate(edge_request_total[$__rate_interval]))", "edge_request_total is not in the catalogue"),
        ("sum(rate(edge_requests[$__rate_interval]))", "edge_requests is not in the catalogue"),
        ("edge_latency_seconds", "edge_latency_seconds is not in the catalogue"),
        ("edge_users_samples", "edge_users_samples is not in the catalogue"),
        (r#"sum(rate(edge_requests_total{pops="sfo"}[$__rate_interval]))"#, "edge_requests_total has no label pops"),
        (r#"sum(rate(edge_requests_total{cache="hot"}[$__rate_interval]))"#, "is never \"hot\""),
        (r#"sum(rate(api_requests_total{status_code=~"6.."}[$__rate_interval]))"#, "is never \"6..\""),
        ("sum by (popp) (rate(edge_requests_total[$__rate_interval]))", "no series of the query has a label popp"),
        (r#"{job="edge"}"#, "names no metric"),
        (r#"max({__name__=~"bandid_.+"})"#, "pattern matches no metric"),
        (r#"max({__name__=~"edge_.+"})"#, "pattern finds counters"),
        ("sum(rate(edge_requests_total[$__rate_interval])", "does not parse"),
        ("memory_oom_kills_total", "is a counter and not under rate"),
        ("sum(edge_latency_seconds_count)", "is a counter and not under rate"),
        ("sum(rate(edge_requests_total[5m]))", "rate is not over $__rate_interval"),
        ("sum(increase(edge_requests_total[90m]))", "increase is not over $__rate_interval"),
    ] {
        refuses(Place::Dashboard, expr, why);
    }
    refuses(Place::Alert, "edge_requests_total > 5", "is a counter");
    refuses(Place::Recording("edge_requests:sum"), "sum(edge_requests_total)", "is a counter");
}

fn alert(dashboard: &str, panel: &str) -> Rules {
    let annotations =
        [("dashboard", dashboard), ("panel", panel)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    let rule = Rule { alert: Some("Broken".into()), annotations: annotations.into(), ..Rule::default() };
    Rules { all: vec![rule], jobs: Vec::new() }
}

#[test]
fn an_alert_without_a_panel_is_refused() {
    let dashboards = crate::dashboards::all();
    assert!(alert("operations", "Error Rate").without_panel(&dashboards).is_empty());
    for (dashboard, panel) in [("operations", "Eror Rate"), ("ml", "Error Rate"), ("", "")] {
        let found = alert(dashboard, panel).without_panel(&dashboards);
        assert_eq!(found, [format!("Broken: dashboard {dashboard:?} has no panel {panel:?}")]);
    }
}

#[test]
fn a_limit_below_twice_the_worst_case_is_refused() {
    let limit =
        |job: &str, limit| Rules { jobs: vec![Job { job_name: job.into(), sample_limit: limit }], ..Rules::default() };
    assert!(limit("edge", Some(6_000)).scrape_limits().is_empty());
    assert!(limit("prometheus", None).scrape_limits().is_empty());
    for (job, most) in [("edge", Some(500)), ("attune", Some(6_000)), ("origin", None)] {
        assert_eq!(limit(job, most).scrape_limits().len(), 1, "{job}");
    }
}

#[test]
fn a_runbook_names_live_panels_and_metrics() {
    let panels = BTreeSet::from(["Error Rate", "Consumer Lag"]);
    let of = |text: &str| super::documents::of_runbook(text, &panels, &known());
    let sound = "# Broken\nLook at *Error Rate*, **then** at `kafka_consumer_lag{topic=\"user-events\"}`.\n\
                 * `a * b` and *Consumer Lag*\n```\nsum(rate(api_errors_total[5m])) * 2 * 3\n```\n`api_latency_seconds`\n";
    assert_eq!(of(sound), Vec::<String>::new());
    assert_eq!(of("Look at *Eror Rate*."), ["no dashboard has a panel *Eror Rate*"]);
    assert_eq!(of("`api_eror_total`"), ["no metric is called api_eror_total"]);
    assert_eq!(of("```\nrate(api_eror_total[5m])\n```"), ["no metric is called api_eror_total"]);
}

/// What is committed, with one thing changed.
#[track_caller]
fn changed(change: impl FnOnce(&mut serde_json::Value), why: &str) {
    let dashboards = crate::dashboards::all();
    let mut json = serde_json::from_str(&crate::dashboards::rendered(&dashboards[1])).unwrap();
    change(&mut json);
    let problems = super::grafana::problems("operations", &json, &Known::new(&Rules::default()));
    assert!(problems.iter().any(|problem| problem.contains(why)), "{why:?} is not among {problems:#?}");
}

#[test]
fn a_panel_that_lacks_something_is_refused() {
    let panel = 1;
    changed(|json| json["panels"][panel]["title"] = "Origin".into(), "Origin: no title, or one that another panel has");
    changed(|json| json["panels"][panel]["description"] = "".into(), "Edge: the description is no sentence");
    changed(|json| json["panels"][panel]["fieldConfig"]["defaults"]["unit"] = "".into(), "Edge: no unit");
    changed(|json| json["panels"][panel]["targets"] = serde_json::json!([]), "Edge: no query");
    changed(|json| json["panels"][panel]["datasource"]["uid"] = "P1".into(), "Edge: the data source is not");
    changed(|json| json["panels"][panel]["targets"][0]["legendFormat"] = "".into(), "Edge: no legend");
    changed(
        |json| json["panels"][panel]["targets"][0]["expr"] = "max(edge_users)".into(),
        "edge_users is not narrowed by $job",
    );
    changed(
        |json| json["panels"][panel]["targets"][0]["expr"] = "max(edge_visitors)".into(),
        "Edge: edge_visitors is not in",
    );
    changed(|json| json["templating"]["list"] = serde_json::json!([]), "operations: no variable pop");
    changed(|json| json["description"] = "".into(), "operations: no description");
}

#[test]
fn queries_that_may_rightly_be_empty_are_told_apart() {
    for (expr, always) in [
        ("sum(rate(edge_requests_total[$__rate_interval]))", true),
        ("up", true),
        ("llm_invocation_rate_samples", true),
        ("llm_invocation_rate", false),
        ("avg(gpu_utilization_percent)", false),
        ("sum(rate(edge_requests_total[5m])) / sum(rate(redis_commands_total[5m]))", false),
        ("sum(increase(log_scrubbed_total[1h]))", false),
    ] {
        assert_eq!(always_there(expr), always, "{expr}");
    }
}
