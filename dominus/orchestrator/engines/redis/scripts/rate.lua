-- A token bucket for all workers and replicas. What was let through on credit is taken off in any case, so that the
-- level may be below zero; what a worker did not use comes back.
-- KEYS[1]: the bucket: its level and when that was
-- ARGV[3]: tokens a second, ARGV[4]: the most that it holds, ARGV[5]: tokens wanted
-- ARGV[6]: tokens used on credit, or, below zero, brought back
-- Returns tokens given and the level that is left, as text: a number would lose its fraction.
local rate, burst, wanted = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local known = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = burst
if known[1] then
  -- The clock of a replica that became the primary may be behind.
  local passed = math.max(0, now - tonumber(known[2]))
  level = math.min(burst, tonumber(known[1]) + passed * rate)
end
level = math.min(burst, level - tonumber(ARGV[6]))
local given = math.max(0, math.min(wanted, math.floor(level)))
level = level - given
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.6f', now))
-- A bucket that would be full again need not be kept.
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - level) / rate * 1000) + 1000)
return {tostring(given), string.format('%.6f', level)}
