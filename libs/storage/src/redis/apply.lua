#!lua
-- Applies a batch of one partition, or nothing of it. No shebang flags: a server that is out of memory refuses the whole.
-- KEYS[1]: what every key of the partition begins with.
-- ARGV: consumer, expected offset, next offset, the partition's first offset, lives of states, fences and outcomes in
-- seconds, expected and new tag of the sums (no new one leaves the sums alone), the token of a restoration, then four
-- lists, each after its length: (uid, fence), (uid, state), (day, request, outcomes), (item, sum).
-- With a token it puts back a part of a checkpoint: guarded by the token, and the offsets stay. A fence then says nothing
-- of its visitor's state, and an empty state that there is none.
local base, at = KEYS[1], 10

local function number()
  at = at + 1
  return tonumber(ARGV[at])
end

local function take()
  at = at + 1
  return ARGV[at]
end

local progress = base .. 'progress'
local stands = redis.call('HMGET', progress, ARGV[1], 'restoring')
local is_part = ARGV[10] ~= ''
if is_part or stands[2] then
  if stands[2] ~= ARGV[10] then return { 'conflict', ARGV[4] } end
elseif (stands[1] or ARGV[4]) ~= ARGV[2] then
  return { 'conflict', stands[1] or ARGV[4] }
end
local sums = base .. 'sums'
if ARGV[9] ~= '' and not is_part and (redis.call('HGET', sums, '@') or '') ~= ARGV[8] then
  return { 'stale' }
end

local time = redis.call('TIME')
local now = tonumber(time[1])
local user_ends, fence_life, outcome_life = now + tonumber(ARGV[5]), ARGV[6], ARGV[7]
-- How many states end on each day, by which expired ones are not counted.
local ends = {}
local function count(key_ends, by)
  local day = math.floor(key_ends / 86400)
  ends[day] = (ends[day] or 0) + by
end
-- Lua's numbers are too narrow for an offset.
local function is_later(a, b)
  local a_high, a_low = struct.unpack('>I4I4', a)
  local b_high, b_low = struct.unpack('>I4I4', b)
  return a_high > b_high or (a_high == b_high and a_low > b_low)
end

for _ = 1, number() do
  local uid, fence = take(), take()
  local key = base .. 'f:' .. uid
  local old = redis.call('GET', key)
  if old and not is_later(fence, old) then fence = old end
  redis.call('SET', key, fence, 'EX', fence_life)
  local user = base .. 'u:' .. uid
  local user_ended = is_part and -2 or redis.call('EXPIRETIME', user)
  if user_ended ~= -2 then
    count(user_ended, -1)
    redis.call('UNLINK', user)
  end
end

for _ = 1, number() do
  local user, state = base .. 'u:' .. take(), take()
  local before = redis.call('EXPIRETIME', user)
  if before ~= -2 then count(before, -1) end
  if state == '' then
    redis.call('UNLINK', user)
  else
    redis.call('SET', user, state, 'EXAT', user_ends)
    count(user_ends, 1)
  end
end

for day, by in pairs(ends) do
  if by ~= 0 then redis.call('HINCRBY', base .. 'ends', day, by) end
end

local days = {}
for _ = 1, number() do
  local day, request, new = take(), take(), take()
  local key = base .. 'o:' .. day
  local old = redis.call('HGET', key, request)
  if old then
    -- Four bytes of item and one of bits each; what the batch says of an item replaces what is stored.
    local named, parts = {}, { new }
    for i = 1, #new, 5 do named[string.sub(new, i, i + 3)] = true end
    for i = 1, #old, 5 do
      if not named[string.sub(old, i, i + 3)] then parts[#parts + 1] = string.sub(old, i, i + 4) end
    end
    new = table.concat(parts)
  end
  redis.call('HSET', key, request, new)
  days[day] = key
end
for day, key in pairs(days) do
  redis.call('EXPIRE', key, outcome_life)
  redis.call('SADD', base .. 'days', day)
  redis.call('EXPIRE', base .. 'days', outcome_life)
end

local left = 2 * number()
-- With the time no two batches have the same tag, not even one that is applied again to a server that lost it.
local tag = ARGV[9]
if tag ~= '' then
  tag = tag .. ' ' .. time[1] .. '.' .. time[2]
  redis.call('HSET', sums, '@', tag)
end
while left > 0 do
  -- As many as Lua's stack takes.
  local n = math.min(left, 2000)
  redis.call('HSET', sums, unpack(ARGV, at + 1, at + n))
  at, left = at + n, left - n
end

if is_part then return { 'applied', tag } end
redis.call('HSET', progress, ARGV[1], ARGV[3])
redis.call('SPUBLISH', progress, ARGV[1] .. ' ' .. ARGV[3])
return { 'applied', tag }
