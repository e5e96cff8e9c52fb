-- KEYS[1]: the lock, which holds '<fence> <owner>'; KEYS[2]: the last fence
-- ARGV[3]: the owner, ARGV[4]: the life of the lock in seconds, ARGV[5]: the life of the last fence in seconds
-- Returns the fence, or '0' when another owner holds the lock.
local outcome = once(function()
  local held = redis.call('GET', KEYS[1])
  if held then
    local space = string.find(held, ' ', 1, true)
    if string.sub(held, space + 1) ~= ARGV[3] then
      return '0'
    end
    -- The same owner asks again: it is the same acquisition.
    redis.call('EXPIRE', KEYS[1], ARGV[4])
    return string.sub(held, 1, space - 1)
  end
  -- Fences start at the server's clock (in milliseconds) so that they grow even when a failover or an eviction lost
  -- the last one; the last one makes them grow even when the clock is set back.
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  local fence = string.format('%.0f', math.max(now, last + 1))
  redis.call('SET', KEYS[2], fence, 'EX', ARGV[5])
  redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[3], 'EX', ARGV[4])
  return fence
end)
-- The record says what was; whoever repeats must not enter with a lock that was lost since.
if outcome and outcome ~= '0' and redis.call('GET', KEYS[1]) ~= outcome .. ' ' .. ARGV[3] then
  return '0'
end
return outcome
