-- KEYS[1]: the hash. ARGV[3]: the field
return once(function()
  return tostring(redis.call('HDEL', KEYS[1], ARGV[3]))
end)
