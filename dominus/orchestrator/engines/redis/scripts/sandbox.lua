-- The globals of scripts in the embedded Redis: this list, and no other. Neither files nor processes nor Python are in
-- it, nor what loads code, and nothing of `debug`, which would show the functions behind `redis`.
local kept = {
  _G = true, assert = true, collectgarbage = true, error = true, ipairs = true, math = true, next = true, pairs = true,
  pcall = true, select = true, string = true, table = true, tonumber = true, tostring = true, type = true,
  unpack = true,
}
return function(call, protected_call)
  for name in pairs(_G) do
    if not kept[name] then
      _G[name] = nil
    end
  end
  string.dump = nil
  redis = {
    call = function(...) return call(...) end,
    pcall = function(...) return protected_call(...) end,
  }
  KEYS, ARGV = {}, {}
  return function(keys, argv)
    KEYS, ARGV = keys, argv
  end
end
