-- The tables of the lake (docs/lake.md) for ClickHouse. A test holds their columns against the Parquet schemas.
-- Times to live are what a row may be kept for after its hour; an erasure does not wait for them (erase.sql).

CREATE TABLE IF NOT EXISTS events
(
    `offset` UInt64 COMMENT 'place on user-events, its partition in the upper 16 bits',
    uid FixedString(17) COMMENT 'pseudonym; never the raw id',
    event_id String,
    kind LowCardinality(String),
    item_id LowCardinality(String),
    item Nullable(UInt32) COMMENT 'null where the catalogue did not know it',
    request_id Nullable(FixedString(16)),
    `position` Nullable(UInt32),
    occurred_at DateTime64(3, 'UTC') COMMENT 'as the client says',
    accepted_at DateTime64(3, 'UTC') COMMENT 'by the clock of the platform',
    `value` Float32 COMMENT 'seconds of a dwell, minor units of a conversion, else 1',
    source LowCardinality(String) COMMENT 'platform or import',
    in_decision Bool COMMENT 'the item was in the decision that request_id names',
    decided_position Nullable(UInt32) COMMENT 'what the decision itself says, as all of decided_',
    decided_ideal_position Nullable(UInt32),
    decided_slot LowCardinality(Nullable(String)),
    decided_variant LowCardinality(Nullable(String)),
    decided_level Nullable(UInt32),
    decided_model LowCardinality(Nullable(String)),
    decided_propensity Nullable(Float32) COMMENT 'of a uniform slot: that it showed this item',
    decided_score Nullable(Float32),
    log_partition UInt32
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(accepted_at)
ORDER BY (uid, event_id)
TTL toDateTime(accepted_at) + INTERVAL 400 DAY
COMMENT 'What visitors did. The same event may stand on a log twice; it has one effect, and is one row here.';

CREATE TABLE IF NOT EXISTS items
(
    `offset` UInt64 COMMENT 'place on item-updates; the highest of an item is its last version',
    item UInt32,
    item_id LowCardinality(String),
    title String,
    categories Array(LowCardinality(String)),
    attributes Map(LowCardinality(String), String),
    price Nullable(Int64) COMMENT 'minor currency units',
    created_at Nullable(DateTime64(3, 'UTC')),
    available Bool,
    accepted_at DateTime64(3, 'UTC') COMMENT '1970 where nobody noted it',
    source LowCardinality(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (item, `offset`)
COMMENT 'What the shop said of its items: a row for each version.';

CREATE TABLE IF NOT EXISTS users
(
    `offset` UInt64,
    uid FixedString(17),
    attributes Map(LowCardinality(String), String),
    accepted_at DateTime64(3, 'UTC') COMMENT '1970 where nobody noted it',
    source LowCardinality(String)
)
ENGINE = ReplacingMergeTree
ORDER BY (uid, `offset`)
COMMENT 'What the shop said of visitors: a row for each version of their attributes.';

CREATE TABLE IF NOT EXISTS impressions
(
    request_id FixedString(16),
    uid FixedString(17),
    decided_at DateTime64(3, 'UTC'),
    `position` UInt32,
    item UInt32,
    item_id LowCardinality(Nullable(String)),
    slot LowCardinality(String) COMMENT 'exploit, explore or uniform',
    propensity Nullable(Float32),
    score Nullable(Float32),
    variant LowCardinality(String),
    `path` LowCardinality(String),
    level UInt32,
    level_reason LowCardinality(Nullable(String)),
    page_type LowCardinality(String),
    device LowCardinality(String),
    geo LowCardinality(String),
    model LowCardinality(String),
    catalogue_offset UInt64,
    slots UInt32,
    eligible UInt32 COMMENT 'candidates that a uniform slot is drawn from',
    policy Array(Float32) COMMENT 'uniform, prior_rewards, exploration_min, exploration_max, category_share, category_decay',
    seed UInt64,
    state_epoch Nullable(UInt32),
    state_offset Nullable(UInt64),
    watermark Nullable(DateTime64(3, 'UTC')) COMMENT 'acceptance of the newest event in the state that was served'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(decided_at)
ORDER BY (request_id, position)
TTL toDateTime(decided_at) + INTERVAL 90 DAY
COMMENT 'What was served: a row for each slot of a decision.';

CREATE TABLE IF NOT EXISTS training
(
    request_id FixedString(16),
    uid FixedString(17),
    decided_at DateTime64(3, 'UTC'),
    `position` UInt32,
    item UInt32,
    item_id LowCardinality(String),
    slot LowCardinality(String),
    propensity Nullable(Float32),
    score Nullable(Float32),
    variant LowCardinality(String),
    page_type LowCardinality(String),
    device LowCardinality(String),
    geo LowCardinality(String),
    model LowCardinality(String),
    clicked Bool COMMENT 'within the horizon of the lake, as all outcomes',
    converted Bool,
    dwell_seconds Nullable(Float32),
    known_events UInt32 COMMENT 'accepted before decided_at',
    window_events UInt32,
    known_watermark Nullable(DateTime64(3, 'UTC')) COMMENT 'acceptance of the newest of them',
    newest_event_at Nullable(DateTime64(3, 'UTC')),
    served_watermark Nullable(DateTime64(3, 'UTC')) COMMENT 'of the state that the decision saw',
    attributes Map(LowCardinality(String), String) COMMENT 'as known at decided_at',
    f_taste_logit Float32 COMMENT 'what the ranker reads, as known at decided_at, as all of f_',
    f_taste_latent Float32,
    f_item_bias Float32,
    f_similarity_max Float32,
    f_similarity_top3 Float32,
    f_similarity_last Float32,
    f_similarity_last5 Float32,
    f_similarity_mean Float32,
    f_similarity_hidden Float32,
    f_category_share Float32,
    f_category_best Float32,
    f_category_primary Float32,
    f_category_last Float32,
    f_category_hidden Float32,
    f_category_count Float32,
    f_popularity Float32,
    f_popularity_recent Float32,
    f_like_rate Float32,
    f_click_rate Float32,
    f_item_dwell Float32,
    f_popularity_gap Float32,
    f_age_days_log Float32,
    f_age_unknown Float32,
    f_age_gap_years Float32,
    f_price_log Float32,
    f_price_gap Float32,
    f_in_window Float32,
    f_position Float32,
    f_hour_night Float32,
    f_hour_morning Float32,
    f_hour_afternoon Float32,
    f_segment_new Float32,
    f_segment_casual Float32,
    f_segment_active Float32,
    f_window_length Float32,
    f_visit_length Float32,
    f_last_event_age Float32,
    f_like_share Float32,
    f_hide_share Float32
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(decided_at)
ORDER BY (request_id, position)
TTL toDateTime(decided_at) + INTERVAL 180 DAY
COMMENT 'What was served and seen, the features as they were known then, and what came of it.';
