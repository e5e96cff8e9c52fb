-- KEYS[1]: the hash. ARGV[1]: the most fields, ARGV[2]: the most bytes, of names and values together
-- Returns each field and its value, or 0 when that is more.
local count = redis.call('HLEN', KEYS[1])
if count > tonumber(ARGV[1]) then
  return 0
end
local size = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  size = size + #field + redis.call('HSTRLEN', KEYS[1], field)
  if size > tonumber(ARGV[2]) then
    return 0
  end
end
return redis.call('HGETALL', KEYS[1])
