-- KEYS[1]: the counter. ARGV[3]: what to add, ARGV[4]: the life of a new counter in seconds
return once(function()
  local is_new = redis.call('EXISTS', KEYS[1]) == 0
  redis.call('INCRBY', KEYS[1], ARGV[3])
  if is_new then
    redis.call('EXPIRE', KEYS[1], ARGV[4])
  end
  -- INCRBY's own answer becomes a double in Lua, which is exact to 53 bits only.
  return redis.call('GET', KEYS[1])
end)
