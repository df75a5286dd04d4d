-- State and checkpoints of the job. Times are UTC.
SET 'table.local-time-zone' = 'UTC';
SET 'pipeline.name' = 'attune-logs';
-- A line that comes a second time within a day is a duplicate; later its topic no longer holds it.
SET 'table.exec.state.ttl' = '24 h';
-- A topic without lines must not hold back the others.
SET 'table.exec.source.idle-timeout' = '10 s';
SET 'execution.checkpointing.interval' = '30 s';
SET 'execution.checkpointing.min-pause' = '10 s';
SET 'execution.checkpointing.tolerable-failed-checkpoints' = '3';
SET 'restart-strategy.type' = 'exponential-delay';
