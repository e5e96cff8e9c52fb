-- KEYS[1]: the lock, which holds '<fence> <owner>'. ARGV[3]: the owner
return once(function()
  local held = redis.call('GET', KEYS[1])
  if not held or string.sub(held, string.find(held, ' ', 1, true) + 1) ~= ARGV[3] then
    return '0'
  end
  return tostring(redis.call('DEL', KEYS[1]))
end)
