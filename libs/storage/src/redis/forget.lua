#!lua
-- Drops the outcomes of a partition of days before ARGV[1].
local days = KEYS[1] .. 'days'
for _, day in ipairs(redis.call('SMEMBERS', days)) do
  if tonumber(day) < tonumber(ARGV[1]) then
    redis.call('UNLINK', KEYS[1] .. 'o:' .. day)
    redis.call('SREM', days, day)
  end
end
return 0
