#!lua
-- States of a partition that have not expired, to within those that expire today. Drops the counts of past days.
local key, count = KEYS[1] .. 'ends', 0
local today = math.floor(redis.call('TIME')[1] / 86400)
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  if tonumber(all[i]) < today then
    redis.call('HDEL', key, all[i])
  else
    count = count + tonumber(all[i + 1])
  end
end
return count
