-- What is asked every day, kept up to date by each load. Counts are of distinct (request, item) pairs: an impression
-- told twice counts once, and a click implies one.

CREATE TABLE IF NOT EXISTS ctr_by_day
(
    day Date,
    variant LowCardinality(String),
    shown AggregateFunction(uniqExact, FixedString(16), UInt32),
    clicked AggregateFunction(uniqExact, FixedString(16), UInt32),
    converted AggregateFunction(uniqExact, FixedString(16), UInt32)
)
ENGINE = AggregatingMergeTree
ORDER BY (day, variant)
TTL day + INTERVAL 5 YEAR
COMMENT 'Slots that were seen, clicked and bought from, by day and assignment; read ctr.';

CREATE MATERIALIZED VIEW IF NOT EXISTS ctr_by_day_load TO ctr_by_day AS
SELECT
    toDate(accepted_at) AS day,
    assumeNotNull(decided_variant) AS variant,
    uniqExactState(assumeNotNull(request_id), assumeNotNull(item)) AS shown,
    uniqExactStateIf(assumeNotNull(request_id), assumeNotNull(item), kind = 'click') AS clicked,
    uniqExactStateIf(assumeNotNull(request_id), assumeNotNull(item), kind = 'conversion') AS converted
FROM events
WHERE in_decision AND source = 'platform' AND kind IN ('impression', 'click', 'conversion', 'like')
    AND decided_variant IS NOT NULL
GROUP BY day, variant;

CREATE VIEW IF NOT EXISTS ctr AS
SELECT
    day,
    variant,
    uniqExactMerge(shown) AS shown,
    uniqExactMerge(clicked) AS clicked,
    uniqExactMerge(converted) AS converted,
    clicked / shown AS ctr
FROM ctr_by_day
GROUP BY day, variant;

-- By assignment, whatever was served: else an incident would flatter it.
CREATE VIEW IF NOT EXISTS lift AS
SELECT
    day,
    sumIf(clicked, variant = 'treatment') / sumIf(shown, variant = 'treatment') AS treatment,
    sumIf(clicked, variant = 'holdout') / sumIf(shown, variant = 'holdout') AS holdout,
    treatment / holdout - 1 AS lift
FROM ctr
GROUP BY day;

CREATE TABLE IF NOT EXISTS feature_gaps_by_day
(
    day Date,
    feature LowCardinality(String),
    rows UInt64,
    missing UInt64
)
ENGINE = SummingMergeTree
ORDER BY (day, feature)
TTL day + INTERVAL 5 YEAR
COMMENT 'Training rows, and how many have no value: sum over both, and load an hour once.';

CREATE MATERIALIZED VIEW IF NOT EXISTS feature_gaps_load TO feature_gaps_by_day AS
SELECT
    toDate(decided_at) AS day,
    gap.1 AS feature,
    count() AS rows,
    sum(gap.2) AS missing
FROM training
ARRAY JOIN [
    ('score', toUInt64(isNull(score))),
    ('propensity', toUInt64(isNull(propensity))),
    ('dwell_seconds', toUInt64(isNull(dwell_seconds))),
    ('known_watermark', toUInt64(isNull(known_watermark))),
    ('newest_event_at', toUInt64(isNull(newest_event_at))),
    ('served_watermark', toUInt64(isNull(served_watermark))),
    ('attributes', toUInt64(empty(attributes)))
] AS gap
GROUP BY day, feature;
