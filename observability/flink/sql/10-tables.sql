-- Where lines come from and go to. The Flink operator's SQL runner (or the SQL client) fills in ${...} before it submits.
--
-- Columns beyond the schema of a line (../../logs/log-line.schema.json): what this job adds to each line.
--   region, deployment   of the cluster the job runs in
--   model_release        the bundle that the writing process had gone live with

CREATE TABLE arrived (
  line STRING,
  arrived_at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  topic STRING METADATA VIRTUAL,
  `partition` INT METADATA VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  seen_at AS PROCTIME(),
  WATERMARK FOR arrived_at AS arrived_at - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'logs.app;logs.audit;logs.event',
  'properties.bootstrap.servers' = '${ATTUNE_KAFKA}',
  'properties.group.id' = 'attune-log-pipeline',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'group-offsets',
  'properties.auto.offset.reset' = 'earliest',
  'value.format' = 'raw',
  'value.raw.charset' = 'UTF-8'
);

-- At least once; the document's id is its key, so that a replay writes it again and not beside.
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

-- Whole files only: a part is visible when the checkpoint after it is. The bucket's lifecycle ends them after 90 days.
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

-- What was refused, without its text, which may hold anything: the line itself stays in its topic for the day that the
-- topic keeps, for those who may read it there.
CREATE TABLE dead (
  reason STRING,
  topic STRING,
  `partition` INT,
  `offset` BIGINT,
  characters INT,
  arrived_at TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'logs.dead',
  'properties.bootstrap.servers' = '${ATTUNE_KAFKA}',
  'properties.acks' = 'all',
  'properties.compression.type' = 'zstd',
  'sink.delivery-guarantee' = 'at-least-once',
  'value.format' = 'json',
  'value.json.timestamp-format.standard' = 'ISO-8601'
);
