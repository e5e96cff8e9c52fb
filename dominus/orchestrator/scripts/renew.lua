-- KEYS[1]: the lock, which holds '<fence> <owner>'. ARGV[3]: the owner, ARGV[4]: its new life in seconds
return once(function()
  local held = redis.call('GET', KEYS[1])
  if not held or string.sub(held, string.find(held, ' ', 1, true) + 1) ~= ARGV[3] then
    return '0'
  end
  return tostring(redis.call('EXPIRE', KEYS[1], ARGV[4]))
end)
