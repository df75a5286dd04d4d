-- Questions to the tables. Each begins with its name; `cargo xtask check lake` computes every answer anew.

-- name: rows
SELECT name, rows
FROM
(
    SELECT 'events' AS name, count() AS rows FROM events FINAL
    UNION ALL SELECT 'items' AS name, count() AS rows FROM items FINAL
    UNION ALL SELECT 'users' AS name, count() AS rows FROM users FINAL
    UNION ALL SELECT 'impressions' AS name, count() AS rows FROM impressions FINAL
    UNION ALL SELECT 'training' AS name, count() AS rows FROM training FINAL
)
ORDER BY name;

-- name: ctr_by_variant
SELECT variant, sum(shown) AS shown, sum(clicked) AS clicked, sum(converted) AS converted, clicked / shown AS ctr
FROM ctr
GROUP BY variant
ORDER BY variant;

-- name: lift
SELECT treatment, holdout, lift FROM lift ORDER BY day DESC LIMIT 1;

-- name: missing_share
SELECT feature, sum(missing) / sum(rows) AS missing_share
FROM feature_gaps_by_day
GROUP BY feature
ORDER BY feature;

-- The ranker reads 0 where there is nothing to read.
-- name: zero_share
SELECT COLUMNS('^f_') APPLY(x -> avg(x = 0)) FROM training FINAL;

-- name: freshness
SELECT
    count() AS rows,
    avg(toUnixTimestamp64Milli(decided_at) - toUnixTimestamp64Milli(assumeNotNull(known_watermark))) / 1000 AS seconds_known,
    countIf(known_watermark = served_watermark) / count() AS served_what_was_known
FROM training FINAL
WHERE known_watermark IS NOT NULL;

-- Only uniform slots have a propensity; weighted by it they tell what any policy over the same candidates would get.
-- name: by_slot
SELECT slot, count() AS shown, avg(clicked) AS ctr, avg(score) AS mean_score, avg(propensity) AS mean_propensity
FROM training FINAL
GROUP BY slot
ORDER BY slot;

-- name: calibration
SELECT
    countIf(score IS NOT NULL) AS rows,
    avg(score) AS predicted,
    avgIf(clicked, score IS NOT NULL) AS clicked
FROM training FINAL;

-- name: late_events
SELECT countIf(occurred_at < accepted_at - INTERVAL 1 HOUR) AS late, count() AS events FROM events FINAL;

-- name: top_items
SELECT i.title AS title, count() AS shown, sum(t.clicked) AS clicks
FROM training AS t FINAL
INNER JOIN (SELECT item, argMax(title, `offset`) AS title FROM items GROUP BY item) AS i ON i.item = t.item
GROUP BY title
ORDER BY shown DESC, title
LIMIT 10;
