-- Gives a lease back when it is still held under this token.
-- KEYS: leases. ARGV: resource, holder, token.
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local token, holder = string.match(held, '^(%d+) %d+ %d+ (.*)$')
  if token == ARGV[3] and holder == ARGV[2] then
    return redis.call('HDEL', KEYS[1], ARGV[1])
  end
end
return 0
