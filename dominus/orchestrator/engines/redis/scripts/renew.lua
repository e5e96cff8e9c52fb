-- KEYS[1]: the lock, which holds '<fence> <owner>'. ARGV[3]: the owner, ARGV[4]: its new life in seconds
local function is_held()
  local held = redis.call('GET', KEYS[1])
  return held and string.sub(held, string.find(held, ' ', 1, true) + 1) == ARGV[3]
end
local outcome = once(function()
  return is_held() and tostring(redis.call('EXPIRE', KEYS[1], ARGV[4])) or '0'
end)
-- The record says what was; whoever repeats must not go on with a lock that was lost since.
if outcome == '1' and not is_held() then
  return '0'
end
return outcome
