-- Before the other scripts of this folder, `sandbox` aside. A write that carries an idempotency key happens once: its
-- outcome lies in the record, the last of KEYS, and a repeat gets it.
-- ARGV[1]: the fingerprint of the request, '' when it carries no key and there is no record
-- ARGV[2]: seconds that a record lives
-- Returns the outcome, or nil when the record is of another request.
local function once(write)
  if ARGV[1] == '' then
    return write()
  end
  local record = KEYS[#KEYS]
  local known = redis.call('GET', record)
  if known then
    local space = string.find(known, ' ', 1, true)
    if string.sub(known, 1, space - 1) ~= ARGV[1] then
      return false
    end
    return string.sub(known, space + 1)
  end
  local outcome = write()
  -- Where Redis is full, or cannot write to its disk, it refuses the first change of a script and none after that. So
  -- a refused record is of a write that found nothing to change; a repeat may look again.
  local kept = redis.pcall('SET', record, ARGV[1] .. ' ' .. outcome, 'EX', ARGV[2])
  local said = type(kept) == 'table' and kept.err
  if said and not (string.find(said, 'OOM', 1, true) or string.find(said, 'MISCONF', 1, true)) then
    error(said)
  end
  return outcome
end
