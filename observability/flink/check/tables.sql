-- The tables of ../sql/10-tables.sql for `cargo xtask check telemetry`, column for column: what Kafka would give is read from a file,
-- and what it would take is written to one. The tables of OpenSearch and of Parquet files are the real ones.

-- What fails ends the check.
SET 'restart-strategy.type' = 'none';

CREATE TABLE arrived (
  line STRING,
  arrived_at TIMESTAMP_LTZ(3),
  topic STRING,
  `partition` INT,
  `offset` BIGINT,
  seen_at AS PROCTIME(),
  WATERMARK FOR arrived_at AS arrived_at - INTERVAL '5' SECOND
) WITH (
  'connector' = 'filesystem',
  'path' = '${ATTUNE_ARRIVED}',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE hot (
  `timestamp` STRING,
  `level` STRING,
  severity_number INT,
  service STRING,
  service_version STRING,
  `instance` STRING,
  boot_id STRING,
  seq BIGINT,
  trace_id STRING,
  span_id STRING,
  user_id_hash STRING,
  request_id STRING,
  event STRING,
  metrics ROW<accepted BIGINT, admin_port BIGINT, attributes BIGINT, cache_hit BOOLEAN, candidates_ranked BIGINT, candidates_retrieved BIGINT, duplicates BIGINT, latency_ms DOUBLE, `level` BIGINT, `offset` BIGINT, rejected BIGINT, status_code BIGINT, stores BIGINT, streamed BOOLEAN, suppressed BIGINT, tier STRING>,
  context ROW<change STRING, device STRING, geo STRING, model_version STRING, page_type STRING, reason STRING, route STRING>,
  error ROW<kind STRING, `at` STRING>,
  sampled_weight DOUBLE,
  region STRING,
  deployment STRING,
  model_release STRING,
  PRIMARY KEY (`instance`, boot_id, seq) NOT ENFORCED
) WITH (
  'connector' = 'opensearch-2',
  'hosts' = '${ATTUNE_OPENSEARCH}',
  'index' = 'attune-logs',
  'document-id.key-delimiter' = '/',
  'sink.delivery-guarantee' = 'at-least-once',
  'sink.bulk-flush.max-actions' = '2000',
  'sink.bulk-flush.max-size' = '8mb',
  'sink.bulk-flush.interval' = '1s',
  'sink.bulk-flush.backoff.strategy' = 'EXPONENTIAL',
  'sink.bulk-flush.backoff.max-retries' = '10',
  'sink.bulk-flush.backoff.delay' = '1s',
  'format' = 'json',
  'json.encode.ignore-null-fields' = 'true'
);

CREATE TABLE cold (
  `timestamp` TIMESTAMP(3),
  `level` STRING,
  severity_number INT,
  service STRING,
  service_version STRING,
  `instance` STRING,
  boot_id STRING,
  seq BIGINT,
  trace_id STRING,
  span_id STRING,
  user_id_hash STRING,
  request_id STRING,
  event STRING,
  metrics ROW<accepted BIGINT, admin_port BIGINT, attributes BIGINT, cache_hit BOOLEAN, candidates_ranked BIGINT, candidates_retrieved BIGINT, duplicates BIGINT, latency_ms DOUBLE, `level` BIGINT, `offset` BIGINT, rejected BIGINT, status_code BIGINT, stores BIGINT, streamed BOOLEAN, suppressed BIGINT, tier STRING>,
  context ROW<change STRING, device STRING, geo STRING, model_version STRING, page_type STRING, reason STRING, route STRING>,
  error ROW<kind STRING, `at` STRING>,
  sampled_weight DOUBLE,
  region STRING,
  deployment STRING,
  model_release STRING,
  `day` STRING
) PARTITIONED BY (`day`, service) WITH (
  'connector' = 'filesystem',
  'path' = '${ATTUNE_LOGS}',
  'format' = 'parquet',
  'parquet.compression' = 'ZSTD',
  'sink.rolling-policy.file-size' = '128MB',
  'sink.rolling-policy.rollover-interval' = '15 min'
);

CREATE TABLE dead (
  reason STRING,
  topic STRING,
  `partition` INT,
  `offset` BIGINT,
  characters INT,
  arrived_at TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'filesystem',
  'path' = '${ATTUNE_OUT}/dead',
  'format' = 'json'
);
