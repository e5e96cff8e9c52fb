-- KEYS[1]: the entry
-- Returns '1' and the value that was there, or '0'.
return once(function()
  local value = redis.call('GETDEL', KEYS[1])
  return value and '1' .. value or '0'
end)
