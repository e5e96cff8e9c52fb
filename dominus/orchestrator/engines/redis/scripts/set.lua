-- KEYS[1]: the entry. ARGV[3]: the value, ARGV[4]: its life in seconds
return once(function()
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
  return '1'
end)
