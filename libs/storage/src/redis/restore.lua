#!lua
-- Steps of a restoration of one partition, which its token guards.
-- KEYS[1]: what every key of the partition begins with.
-- ARGV: step, token, the partition's first offset, and then of `begin` (consumer, expected offset) of each, of `unlink`
-- what is left of keys after what they begin with, of `end` (consumer, next offset) of each.
local base, step, token, first = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local progress = base .. 'progress'

if step == 'begin' then
  for i = 4, #ARGV, 2 do
    local found = redis.call('HGET', progress, ARGV[i]) or first
    if found ~= ARGV[i + 1] then
      return { 'conflict', ARGV[i + 1], found }
    end
  end
  for _, day in ipairs(redis.call('SMEMBERS', base .. 'days')) do
    redis.call('UNLINK', base .. 'o:' .. day)
  end
  redis.call('UNLINK', progress, base .. 'days', base .. 'sums', base .. 'ends')
  redis.call('HSET', progress, 'restoring', token)
  return { 'done' }
end

if redis.call('HGET', progress, 'restoring') ~= token then
  return { 'conflict', first, first }
end
if step == 'unlink' then
  for i = 4, #ARGV do
    redis.call('UNLINK', base .. ARGV[i])
  end
else
  for i = 4, #ARGV, 2 do
    redis.call('HSET', progress, ARGV[i], ARGV[i + 1])
    redis.call('SPUBLISH', progress, ARGV[i] .. ' ' .. ARGV[i + 1])
  end
  redis.call('HDEL', progress, 'restoring')
end
return { 'done' }
