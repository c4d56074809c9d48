-- Lists unexpired leases and removes those that ended more than a day ago.
-- KEYS: leases. ARGV: prefix. Returns resource, token, expires_at, holder of each in turn.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
  local resource = all[index]
  local token, expires_at, ttl, holder = string.match(all[index + 1], '^(%d+) (%d+) (%d+) (.*)$')
  local left = math.min(tonumber(expires_at) - now, tonumber(ttl))
  if left > 0 then
    if string.sub(resource, 1, #ARGV[1]) == ARGV[1] then
      table.insert(found, resource)
      table.insert(found, token)
      table.insert(found, string.format('%.0f', now + left))
      table.insert(found, holder)
    end
  elseif left < -86400000000 then
    redis.call('HDEL', KEYS[1], resource)
  end
end
return found
