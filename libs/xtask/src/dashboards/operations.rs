//! Whether the platform is well, and where it is not.

use super::panel::{Dashboard, Panel, Row, graph, query, row, stat};
use super::query::{aggregate, gauge, increase, mean, quantile, rate, series, share, up};
use attune_telemetry::catalogue::names::*;
use attune_telemetry::catalogue::{RedEntries, Service, red};

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        name: "operations",
        title: "Attune / Operations",
        description: "System health: traffic, errors, latency, resources, pipelines.",
        rows: vec![health(), requests(), failures(), resources(), data(), behind()],
    }
}

/// Of a service that speaks gRPC.
fn entries(service: Service) -> &'static RedEntries {
    red(service).expect("every service but the edge has them")
}

fn health() -> Row {
    let llm = entries(Service::Llm);
    row(
        "System Health",
        vec![
            stat(
                "Edge",
                "none",
                "Whether every edge process answers, and the number of PoPs.",
                vec![
                    query("health", aggregate("min", "", &up("edge|attune"))),
                    query("PoPs", format!("count({})", gauge("count", &EDGE_CACHE_SIZE, "pop", ""))),
                ],
            )
            .words("Down", "Healthy"),
            stat(
                "Origin",
                "none",
                "Whether every origin process answers, and the number of regions.",
                vec![
                    query("health", aggregate("min", "", &up("origin|attune"))),
                    query("regions", format!("count({})", aggregate("count", "region", &up("origin|attune")))),
                ],
            )
            .words("Down", "Healthy"),
            stat(
                "Streaming",
                "s",
                "Age of the oldest record that is not yet applied.",
                vec![query("lag", gauge("max", &STREAMING_LAG, "", ""))],
            )
            .low_is_good(60.0, 300.0),
            stat(
                "LLM",
                "percentunit",
                "Explanations that did not fail, and the share of pages that a language model worked on.",
                vec![
                    query("available", format!("1 - {} / {}", rate(&llm.errors, "", ""), rate(&llm.requests, "", ""))),
                    query("usage", share(&PERSONALIZATION_REQUESTS, "", r#"tier="llm""#, "")),
                ],
            ),
        ],
    )
}

fn requests() -> Row {
    let quantiles = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")];
    let (api, llm) = (entries(Service::Origin), entries(Service::Llm));
    row(
        "Latency and Traffic",
        vec![
            graph(
                "Latency p50/p95/p99",
                "s",
                "Of visitors' requests at the edge. Dots lead to kept traces.",
                quantiles.map(|(q, legend)| query(legend, quantile(q, &EDGE_LATENCY, "", ""))).into(),
            )
            .low_is_good(0.1, 0.15),
            graph(
                "Latency by Tier",
                "s",
                "p95 of pages by the deepest tier that worked on them, and of the API and the LLM.",
                vec![
                    query("page: {{tier}}", quantile(0.95, &PERSONALIZATION_DURATION, "tier", "")),
                    query(
                        "api {{endpoint}}",
                        quantile(0.95, &api.latency, "endpoint", r#"endpoint=~"/personalize|/explain|/feedback""#),
                    ),
                    query("llm {{endpoint}}", quantile(0.95, &llm.latency, "endpoint", "")),
                ],
            ),
            graph(
                "QPS by Tier",
                "reqps",
                "Pages by the deepest tier that worked on them, and all requests at the edge and the API.",
                vec![
                    query("page: {{tier}}", rate(&PERSONALIZATION_REQUESTS, "tier", "")),
                    query("edge", rate(&EDGE_REQUESTS, "", "")),
                    query("api", rate(&api.requests, "", "")),
                ],
            ),
            graph(
                "QPS by PoP",
                "reqps",
                "Requests of visitors.",
                vec![query("{{pop}}", rate(&EDGE_REQUESTS, "pop", ""))],
            ),
            graph(
                "Stage Latency",
                "s",
                "p95 of the stages of a page at the origin.",
                vec![query(
                    "{{stage}}",
                    quantile(
                        0.95,
                        &attune_telemetry::catalogue::stages(Service::Origin).expect("the origin has stages").duration,
                        "stage",
                        "",
                    ),
                )],
            ),
            graph(
                "Requests in Progress",
                "short",
                "At the API, by endpoint.",
                vec![query("{{endpoint}}", gauge("sum", &api.concurrent, "endpoint", ""))],
            ),
        ],
    )
}

fn failures() -> Row {
    let ratio = |service| {
        let red = entries(service);
        format!("{} / {}", rate(&red.errors, "", ""), rate(&red.requests, "", ""))
    };
    row(
        "Errors and Degradation",
        vec![
            graph(
                "Error Rate",
                "percentunit",
                "Requests that failed through our fault, by service.",
                vec![
                    query("edge", format!("{} / {}", rate(&EDGE_ERRORS, "", ""), rate(&EDGE_REQUESTS, "", ""))),
                    query("api", ratio(Service::Origin)),
                    query("retrieval", ratio(Service::Retrieval)),
                    query("ranking", ratio(Service::Ranking)),
                    query("bandit", ratio(Service::Bandit)),
                    query("llm", ratio(Service::Llm)),
                ],
            )
            .low_is_good(0.005, 0.01),
            graph(
                "Cache Hit Rate",
                "percentunit",
                "Hits of the edge's candidate sets, by PoP.",
                vec![query("{{pop}}", share(&EDGE_REQUESTS, "pop", r#"cache="hit""#, r#"cache=~"hit|miss""#))],
            )
            .high_is_good(0.6, 0.7),
            graph(
                "Degradation Levels",
                "reqps",
                "Pages by the level they were really served at; 0 is whole.",
                vec![query("level {{level}}", rate(&PERSONALIZATION_LEVEL, "level", ""))],
            ),
            graph(
                "Model Serving",
                "reqps",
                "Ranking calls and those that failed.",
                vec![
                    query("calls", rate(&entries(Service::Ranking).requests, "", "")),
                    query("errors", rate(&entries(Service::Ranking).errors, "", "")),
                ],
            ),
            graph(
                "SLO Error Budgets",
                "percentunit",
                "What is left of each objective's error budget of 30 days.",
                vec![query("{{service}} {{slo}}", r#"slo:error_budget_remaining:ratio30d{region=~"$region"}"#)],
            )
            .high_is_good(0.0, 0.25),
            graph(
                "Circuit Breakers",
                "short",
                "Peers that are given up for the moment.",
                vec![query("{{peer}} for {{instance}}", gauge("max", &RPC_CIRCUIT_OPEN, "peer, instance", ""))],
            ),
        ],
    )
}

/// The devices that carry more than this process's talk with itself.
const OUTSIDE: &str = r#"device!="lo""#;

fn resources() -> Row {
    let traffic = format!("rate({}[$__rate_interval])", series(&NETWORK_BYTES, "", OUTSIDE));
    let memory = |function: &str, by: &str| {
        let per_process = format!("100 * {} / {}", series(&MEMORY_USAGE, "", ""), series(&MEMORY_LIMIT, "", ""));
        aggregate(function, by, &per_process)
    };
    row(
        "Resources",
        vec![
            stat(
                "CPU",
                "percent",
                "Mean over processes of the CPU time used, of what each may use.",
                vec![query("cpu", gauge("avg", &CPU_USAGE, "", ""))],
            )
            .low_is_good(70.0, 90.0),
            stat(
                "Memory",
                "percent",
                "The highest share of its memory limit that a process uses.",
                vec![query("memory", memory("max", ""))],
            )
            .low_is_good(70.0, 90.0),
            stat(
                "GPU",
                "percent",
                "Mean utilisation; absent without a GPU.",
                vec![query("gpu", gauge("avg", &GPU_UTILIZATION, "", ""))],
            )
            .low_is_good(80.0, 95.0),
            stat(
                "Network",
                "percent",
                "Of the links' speed, where they say one.",
                vec![query(
                    "network",
                    format!(
                        "100 * max({} / on (region, job, instance, device) group_left () {})",
                        aggregate("max", "region, job, instance, device", &traffic),
                        series(&NETWORK_SPEED, "", OUTSIDE),
                    ),
                )],
            )
            .low_is_good(60.0, 80.0),
            graph(
                "CPU/Memory/GPU",
                "percent",
                "By job: CPU of what it may use, memory of its limit, GPU utilisation.",
                vec![
                    query("cpu {{job}}", gauge("max", &CPU_USAGE, "job", "")),
                    query("memory {{job}}", memory("max", "job")),
                    query("gpu {{gpu}}", gauge("max", &GPU_UTILIZATION, "gpu", "")),
                ],
            ),
            graph(
                "CPU Throttling",
                "s",
                "Seconds a second for which control groups were held back.",
                vec![query("{{job}}", rate(&CPU_THROTTLE, "job", ""))],
            ),
            graph(
                "Network Traffic",
                "Bps",
                "By interface and direction, loopback left out.",
                vec![query("{{device}} {{direction}}", aggregate("max", "instance, device, direction", &traffic))],
            ),
            graph(
                "Network Saturation and Errors",
                "short",
                "Packets waiting in the kernel, and packets a second that were damaged or dropped.",
                vec![
                    query("queue", gauge("max", &NETWORK_QUEUE, "", "")),
                    query("errors {{device}}", rate(&NETWORK_ERRORS, "device", "")),
                ],
            ),
            graph(
                "Disk",
                "percent",
                "Use of the file system, and the share of time in which a task waited for a disk.",
                vec![
                    query("used {{instance}}", gauge("max", &DISK_USAGE, "instance", "")),
                    query("wait {{instance}}", format!("100 * {}", gauge("max", &DISK_IO_WAIT, "instance", ""))),
                ],
            ),
            graph(
                "Hardware and Kernel Errors",
                "short",
                "Over the last hour.",
                vec![
                    query("out of memory kills", increase(&MEMORY_OOM_KILLS, "1h", "", "")),
                    query("memory", increase(&MEMORY_ERRORS, "1h", "", "")),
                    query("disk", increase(&DISK_ERRORS, "1h", "", "")),
                    query("gpu", increase(&GPU_ERRORS, "1h", "", "")),
                ],
            ),
        ],
    )
}

fn data() -> Row {
    row(
        "Data",
        vec![
            graph(
                "Consumer Lag",
                "short",
                "Records not yet applied, and with Kafka those not yet consumed, by topic.",
                vec![
                    query("embedder", gauge("max", &EMBEDDER_LAG, "", "")),
                    query("{{topic}}", gauge("sum", &KAFKA_CONSUMER_LAG, "topic", "")),
                ],
            ),
            graph(
                "Events Processed",
                "short",
                "A second, by processor.",
                vec![query("{{processor}}", rate(&STREAMING_EVENTS, "processor", ""))],
            ),
            stat(
                "Vector DB Health",
                "none",
                "vectordb_health_status: whether the index answers and follows the catalogue.",
                vec![query("{{instance}}", gauge("min", &VECTORDB_HEALTH, "instance", ""))],
            )
            .words("Unhealthy", "Healthy"),
            stat(
                "Index Items",
                "short",
                "Items that a search can find, and those in a graph.",
                vec![
                    query("items", gauge("max", &RETRIEVAL_INDEX_ITEMS, "", "")),
                    query("in graphs", gauge("max", &RETRIEVAL_GRAPH_ITEMS, "", "")),
                ],
            ),
            stat(
                "Edge Cache",
                "bytes",
                "Bytes of the candidate sets held.",
                vec![query("sets", gauge("sum", &EDGE_CACHE_SIZE, "", ""))],
            ),
            stat(
                "Edge Users",
                "short",
                "Visitors whose state is held at the edge.",
                vec![query("users", gauge("sum", &EDGE_USERS, "", ""))],
            ),
            graph(
                "Vector DB Latency",
                "s",
                "p95 by operation.",
                vec![query("{{operation}}", quantile(0.95, &VECTORDB_LATENCY, "operation", ""))],
            ),
            graph(
                "Feature Store Latency",
                "s",
                "p95 of the embedder's endpoints, and of Redis where it is the store.",
                vec![
                    query("{{endpoint}}", quantile(0.95, &entries(Service::Embedder).latency, "endpoint", "")),
                    query("redis {{command}}", quantile(0.95, &REDIS_LATENCY, "command", "")),
                ],
            ),
            graph(
                "Decision Log",
                "short",
                "Records a second: stored, and lost by where and why.",
                vec![
                    query("stored", rate(&ORIGIN_DECISIONS_STORED, "", "")),
                    query("lost at the origin: {{reason}}", rate(&ORIGIN_DECISIONS_DROPPED, "reason", "")),
                    query("lost at the edge: {{reason}}", rate(&EDGE_DECISIONS_DROPPED, "reason", "")),
                ],
            ),
            graph(
                "Feedback Events",
                "short",
                "A second, by what became of them.",
                vec![query("{{outcome}}", rate(&EDGE_EVENTS, "outcome", ""))],
            ),
        ],
    )
}

fn behind() -> Row {
    let llm = entries(Service::Llm);
    row(
        "Behind the API",
        vec![
            graph(
                "Ranking Latency",
                "s",
                "p50 and p95 of calls, and mean time that models compute.",
                vec![
                    query("p50", quantile(0.5, &entries(Service::Ranking).latency, "", "")),
                    query("p95", quantile(0.95, &entries(Service::Ranking).latency, "", "")),
                    query("computing {{model_name}}", mean(&MODEL_INFERENCE, "model_name", "")),
                ],
            ),
            graph(
                "Retrieval Sources",
                "short",
                "Candidate sources that were late or failed, a second.",
                vec![query(
                    "{{source}} {{outcome}}",
                    rate(&RETRIEVAL_SOURCES, "source, outcome", r#"outcome=~"late|failed""#),
                )],
            ),
            graph(
                "LLM Queue Depth",
                "short",
                "Calls of the back-end running and waiting.",
                vec![
                    query("running", gauge("sum", &LLM_RUNNING, "", "")),
                    query("waiting", gauge("sum", &LLM_QUEUE, "", "")),
                ],
            ),
            graph(
                "LLM Fallbacks and Errors",
                "short",
                "Template answers by reason, and errors by code, a second.",
                vec![
                    query("{{reason}}", rate(&LLM_FALLBACKS, "reason", "")),
                    query("{{code}}", rate(&llm.errors, "code", "")),
                ],
            ),
            edge_slots(),
            graph(
                "Background Failures",
                "short",
                "Steps beside requests that failed, over the last hour.",
                vec![
                    query("origin {{step}}", increase(&ORIGIN_BACKGROUND_FAILURES, "1h", "step", "")),
                    query("embedder retries", increase(&EMBEDDER_RETRIES, "1h", "", "")),
                    query("index follow errors", increase(&RETRIEVAL_FOLLOW_ERRORS, "1h", "", "")),
                    query("posterior polls", increase(&BANDIT_POLL_ERRORS, "1h", "", "")),
                ],
            ),
        ],
    )
}

fn edge_slots() -> Panel {
    graph(
        "Exploring Slots",
        "percentunit",
        "Slots of answers that explore, as served.",
        vec![query("exploring", share(&EDGE_SLOTS, "", r#"exploration="true""#, ""))],
    )
}
