//! Engines that take over from the embedded ones at scale.

use super::Service::{Bandit, Embedder, Origin};
use super::{Applies, LabelKey, Unit, counter, entries, gauge, latency};

/// The commands that the stores use, and no others.
const COMMAND: LabelKey = LabelKey::list(
    "command",
    &[
        "dbsize", "eval", "evalsha", "hget", "hgetall", "hmget", "hscan", "hset", "hsetnx", "info", "memory", "mget",
        "scan", "smembers",
    ],
);

entries! {
    REDIS_COMMANDS: Counter = counter("redis_commands_total", Unit::Count, "Commands sent to Redis.")
        .labels(&[COMMAND])
        .when(Applies::Engine("redis"))
        .by(&[Origin, Bandit, Embedder]);
    REDIS_LATENCY: Histogram = latency("redis_latency_seconds", "Duration of commands to Redis.")
        .labels(&[COMMAND])
        .when(Applies::Engine("redis"))
        .by(&[Origin, Bandit, Embedder]);
    REDIS_MEMORY: Gauge = gauge("redis_memory_used_bytes", Unit::Bytes, "Memory that Redis says it uses.")
        .when(Applies::Engine("redis"))
        .by(&[Embedder]);
    REDIS_FAMILY_MEMORY: Gauge = gauge(
        "redis_family_memory_bytes", Unit::Bytes, "Memory of each family of the feature store's keys, estimated."
    )
        .labels(&[LabelKey::list("family", &["users", "fences", "outcomes", "posteriors", "progress"])])
        .when(Applies::Engine("redis"))
        .by(&[Embedder]);
    KAFKA_CONSUMER_LAG: Gauge = gauge("kafka_consumer_lag", Unit::Count, "Records not yet consumed.")
        .labels(&[
            LabelKey::list("topic", &["user-events", "item-updates", "user-updates", "decisions", "state-versions"]),
            LabelKey::first("partition", 64),
        ])
        .when(Applies::Engine("kafka"))
        .by(&[Embedder]);
    KAFKA_ROUND_TRIP: Gauge = gauge(
        "kafka_round_trip_seconds", Unit::Seconds, "Round trip to each broker, the 99th percentile of the last second."
    )
        .labels(&[LabelKey::first("broker", 32)])
        .when(Applies::Engine("kafka"))
        .by(&[Origin, Embedder]);
    KAFKA_QUEUED: Gauge = gauge("kafka_queued_messages", Unit::Count, "Messages that wait to be sent.")
        .when(Applies::Engine("kafka"))
        .by(&[Origin, Embedder]);
    KAFKA_RETRIES: Counter = counter("kafka_retries_total", Unit::Count, "Requests that were sent again.")
        .when(Applies::Engine("kafka"))
        .by(&[Origin, Embedder]);
    KAFKA_ERRORS: Counter = counter(
        "kafka_errors_total", Unit::Count, "Errors that clients of Kafka reported, such as lost connections."
    )
        .when(Applies::Engine("kafka"))
        .by(&[Origin, Embedder]);
}
