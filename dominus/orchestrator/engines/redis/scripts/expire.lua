-- KEYS[1]: the entry. ARGV[3]: its new life in seconds
return once(function()
  return tostring(redis.call('EXPIRE', KEYS[1], ARGV[3]))
end)
