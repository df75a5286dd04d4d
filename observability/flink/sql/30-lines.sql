-- Scrub, read, deduplicate, enrich.

-- The second net behind the types that keep such things out of a line, with a count that must stay 0: an address of mail, a
-- token, a card's number, in a line that is one of ours in every other way.
CREATE TEMPORARY VIEW judged AS
SELECT *,
  CASE
    WHEN is_valid IS NOT TRUE THEN 'invalid'
    WHEN REGEXP(line, '[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+\.[A-Za-z]') THEN 'scrubbed'
    WHEN REGEXP(line, 'eyJ[A-Za-z0-9_-]{8,}\.') THEN 'scrubbed'
    WHEN REGEXP(line, '[0-9]{4}([:._-])[0-9]{4}\1[0-9]{4}\1[0-9]') THEN 'scrubbed'
  END AS refused
FROM checked;

CREATE TEMPORARY VIEW fields AS
SELECT
  JSON_VALUE(line, '$.timestamp') AS `timestamp`,
  JSON_VALUE(line, '$.level') AS `level`,
  JSON_VALUE(line, '$.severity_number' RETURNING INTEGER) AS severity_number,
  JSON_VALUE(line, '$.service') AS service,
  JSON_VALUE(line, '$.service_version') AS service_version,
  JSON_VALUE(line, '$.instance') AS `instance`,
  JSON_VALUE(line, '$.boot_id') AS boot_id,
  CAST(JSON_VALUE(line, '$.seq') AS BIGINT) AS seq,
  JSON_VALUE(line, '$.trace_id') AS trace_id,
  JSON_VALUE(line, '$.span_id') AS span_id,
  JSON_VALUE(line, '$.user_id_hash') AS user_id_hash,
  JSON_VALUE(line, '$.request_id') AS request_id,
  JSON_VALUE(line, '$.event') AS event,
  CAST(ROW(
    CAST(JSON_VALUE(line, '$.metrics.accepted') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.admin_port') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.attributes') AS BIGINT),
    JSON_VALUE(line, '$.metrics.cache_hit' RETURNING BOOLEAN),
    CAST(JSON_VALUE(line, '$.metrics.candidates_ranked') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.candidates_retrieved') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.duplicates') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.latency_ms') AS DOUBLE),
    CAST(JSON_VALUE(line, '$.metrics.level') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.offset') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.rejected') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.status_code') AS BIGINT),
    CAST(JSON_VALUE(line, '$.metrics.stores') AS BIGINT),
    JSON_VALUE(line, '$.metrics.streamed' RETURNING BOOLEAN),
    CAST(JSON_VALUE(line, '$.metrics.suppressed') AS BIGINT),
    JSON_VALUE(line, '$.metrics.tier')
  ) AS ROW<accepted BIGINT, admin_port BIGINT, attributes BIGINT, cache_hit BOOLEAN, candidates_ranked BIGINT, candidates_retrieved BIGINT, duplicates BIGINT, latency_ms DOUBLE, `level` BIGINT, `offset` BIGINT, rejected BIGINT, status_code BIGINT, stores BIGINT, streamed BOOLEAN, suppressed BIGINT, tier STRING>) AS metrics,
  CAST(ROW(
    JSON_VALUE(line, '$.context.change'),
    JSON_VALUE(line, '$.context.device'),
    JSON_VALUE(line, '$.context.geo'),
    JSON_VALUE(line, '$.context.model_version'),
    JSON_VALUE(line, '$.context.page_type'),
    JSON_VALUE(line, '$.context.reason'),
    JSON_VALUE(line, '$.context.route')
  ) AS ROW<change STRING, device STRING, geo STRING, model_version STRING, page_type STRING, reason STRING, route STRING>) AS context,
  CAST(ROW(
    JSON_VALUE(line, '$.error.kind'),
    JSON_VALUE(line, '$.error.at')
  ) AS ROW<kind STRING, `at` STRING>) AS error,
  CAST(JSON_VALUE(line, '$.sampled_weight') AS DOUBLE) AS sampled_weight,
  arrived_at,
  seen_at
FROM judged
WHERE refused IS NULL;

-- A line is named by (instance, boot_id, seq). Agents send at least once; the first to arrive stays.
CREATE TEMPORARY VIEW once AS
SELECT * FROM (
  SELECT *, ROW_NUMBER() OVER (PARTITION BY `instance`, boot_id, seq ORDER BY seen_at) AS nth FROM fields
)
WHERE nth = 1;

-- What each process had live, and since when.
CREATE TEMPORARY VIEW releases AS
SELECT `instance`, boot_id, model_release, arrived_at FROM (
  SELECT `instance`, boot_id, context.model_version AS model_release, arrived_at,
    ROW_NUMBER() OVER (PARTITION BY `instance`, boot_id ORDER BY arrived_at DESC) AS newest
  FROM once
  WHERE event = 'model_deployed'
)
WHERE newest = 1;

CREATE TEMPORARY VIEW enriched AS
SELECT
  once.`timestamp`, once.`level`, once.severity_number, once.service, once.service_version, once.`instance`, once.boot_id,
  once.seq, once.trace_id, once.span_id, once.user_id_hash, once.request_id, once.event, once.metrics, once.context,
  once.error, once.sampled_weight,
  '${ATTUNE_REGION}' AS region,
  '${ATTUNE_DEPLOYMENT}' AS deployment,
  releases.model_release
FROM once
LEFT JOIN releases FOR SYSTEM_TIME AS OF once.arrived_at
ON once.`instance` = releases.`instance` AND once.boot_id = releases.boot_id;
