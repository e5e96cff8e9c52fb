-- KEYS[1]: the lock, which holds '<fence> <owner>'. ARGV[1]: the owner, ARGV[2]: its new life in seconds
-- It keeps no record: a repeat renews once more, and whoever repeats must not go on with a lock that was lost since.
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, string.find(held, ' ', 1, true) + 1) ~= ARGV[1] then
  return '0'
end
return tostring(redis.call('EXPIRE', KEYS[1], ARGV[2]))
