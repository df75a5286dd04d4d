//! The streaming tier.

use super::Service::Embedder;
use super::{Applies, LabelKey, Unit, counter, entries, gauge, latency};

const PROCESSOR: LabelKey = LabelKey::list("processor", &["embed", "context", "bandit"]);

entries! {
    STREAMING_EVENTS: Counter = counter(
        "streaming_events_processed_total", Unit::Count, "Events whose effect is stored, by processor."
    )
        .labels(&[PROCESSOR])
        .by(&[Embedder]);
    STREAMING_LAG: Gauge = gauge(
        "streaming_lag_seconds", Unit::Seconds, "Age of the oldest record that is not yet applied."
    )
        .labels(&[LabelKey::first("consumer_group", 4)])
        .by(&[Embedder]);
    STREAMING_CHECKPOINT: Histogram = latency("streaming_checkpoint_duration_seconds", "Duration of checkpoints.")
        .when(Applies::Stream)
        .by(&[Embedder]);
    STREAMING_STATE: Gauge = gauge("streaming_state_size_bytes", Unit::Bytes, "Bytes of the processors' state.")
        .when(Applies::Stream)
        .by(&[Embedder]);
    EMBEDDER_RECORDS: Counter = counter("embedder_records_total", Unit::Count, "Records, by what became of them.")
        .labels(&[LabelKey::list("outcome", &["void", "erased", "dead", "reward"])])
        .by(&[Embedder]);
    EMBEDDER_RETRIES: Counter = counter("embedder_retries_total", Unit::Count, "Steps repeated because a store failed.")
        .by(&[Embedder]);
    EMBEDDER_RESTORES: Counter = counter(
        "embedder_restores_total", Unit::Count, "Partitions of an emptied feature store, by what they were filled from."
    )
        .labels(&[LabelKey::list("from", &["checkpoint", "log"])])
        .by(&[Embedder]);
    EMBEDDER_RESTORED: Counter = counter(
        "embedder_restored_records_total", Unit::Count, "Records whose effects came from checkpoints, not from the log."
    )
        .by(&[Embedder]);
    EMBEDDER_CHECKPOINT_BYTES: Gauge = gauge(
        "embedder_checkpoint_bytes", Unit::Bytes, "Bytes of the last checkpoints of this process's partitions."
    )
        .by(&[Embedder]);
    EMBEDDER_CHECKPOINT_FAILURES: Counter = counter(
        "embedder_checkpoint_failures_total", Unit::Count, "Checkpoints that could not be written."
    )
        .by(&[Embedder]);
    EMBEDDER_LAG: Gauge = gauge(
        "embedder_lag_records", Unit::Count, "Records of user-events that are not yet applied."
    )
        .by(&[Embedder]);
}
