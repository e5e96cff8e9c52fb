-- KEYS[1]: the entry. ARGV[3]: the value, ARGV[4]: its life in seconds
-- Returns '1', or '0' and the value that is there.
local outcome = once(function()
  -- Looked at first: where Redis is full it refuses a SET that would do nothing, too.
  if redis.call('EXISTS', KEYS[1]) == 1 then
    return '0'
  end
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
  return '1'
end)
if outcome ~= '0' then
  return outcome
end
-- The value that is there may be large, so it is no part of the record. It may be a hash, hence pcall.
local existing = redis.pcall('GET', KEYS[1])
return type(existing) == 'string' and outcome .. existing or outcome
