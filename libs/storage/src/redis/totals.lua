#!lua flags=no-writes
-- Offsets of the consumers in ARGV and all posterior sums of a partition, of one moment.
local progress = redis.call('HMGET', KEYS[1] .. 'progress', ARGV[1], ARGV[2])
return { progress[1], progress[2], redis.call('HGETALL', KEYS[1] .. 'sums') }
