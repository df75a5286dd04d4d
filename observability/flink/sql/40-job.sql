-- One job: what is read once is written to all three.
EXECUTE STATEMENT SET
BEGIN
INSERT INTO hot
SELECT `timestamp`, `level`, severity_number, service, service_version, `instance`, boot_id, seq, trace_id, span_id,
  user_id_hash, request_id, event, metrics, context, error, sampled_weight, region, deployment, model_release
FROM enriched;

INSERT INTO cold
SELECT TO_TIMESTAMP(`timestamp`, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z'''), `level`, severity_number, service, service_version,
  `instance`, boot_id, seq, trace_id, span_id, user_id_hash, request_id, event, metrics, context, error, sampled_weight,
  region, deployment, model_release, SUBSTRING(`timestamp` FROM 1 FOR 10)
FROM enriched;

INSERT INTO dead
SELECT refused, topic, `partition`, `offset`, CHAR_LENGTH(line), arrived_at
FROM judged
WHERE refused IS NOT NULL;
END;
