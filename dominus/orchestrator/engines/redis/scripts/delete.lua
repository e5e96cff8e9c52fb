-- KEYS[1]: the entry
return once(function()
  return tostring(redis.call('UNLINK', KEYS[1]))
end)
