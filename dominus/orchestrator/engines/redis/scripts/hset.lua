-- KEYS[1]: the hash. ARGV[3]: the field, ARGV[4]: the value, ARGV[5]: the life of the hash in seconds
return once(function()
  local added = redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
  redis.call('EXPIRE', KEYS[1], ARGV[5])
  return tostring(added)
end)
