-- Takes or renews a lease. A lease is kept as `token expires_at ttl holder`, times in microseconds.
-- KEYS: leases, last token. ARGV: resource, holder, ttl in microseconds.
-- Returns token and expires_at as text, or nothing while another holds it.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ttl = tonumber(ARGV[3])
local token
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local old_token, expires_at, old_ttl, holder = string.match(held, '^(%d+) (%d+) (%d+) (.*)$')
  -- A clock that was set back would keep the lease for as long as it was set back: never longer than it was granted for.
  local left = math.min(tonumber(expires_at) - now, tonumber(old_ttl))
  if left > 0 then
    if holder ~= ARGV[2] then
      if tonumber(expires_at) - now > left then
        redis.call('HSET', KEYS[1], ARGV[1],
          string.format('%s %.0f %s %s', old_token, now + left, old_ttl, holder))
      end
      return false
    end
    token = old_token
  end
end
if not token then
  -- At least the time, so that tokens ascend also over a loss of the data.
  token = string.format('%.0f', math.max((tonumber(redis.call('GET', KEYS[2])) or 0) + 1, now))
  redis.call('SET', KEYS[2], token)
end
local expires_at = string.format('%.0f', now + ttl)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s %.0f %s', token, expires_at, ttl, ARGV[2]))
return {token, expires_at}
