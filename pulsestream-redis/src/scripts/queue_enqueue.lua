-- Accepts a batch, unless the queue is full.
-- KEYS: batches, dead, used. ARGV: most events, most bytes, events, bytes, tenant, body,
-- group. Returns 1 when it was accepted.
local events, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local used = redis.call('HMGET', KEYS[3], 'events', 'bytes')
if (tonumber(used[1]) or 0) + events > tonumber(ARGV[1]) or (tonumber(used[2]) or 0) + bytes > tonumber(ARGV[2]) then
  -- Somebody else may have trimmed the streams, which leaves what was counted.
  if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2]) > 0 then
    return 0
  end
  redis.call('DEL', KEYS[3])
end
-- The first write decides whether there is memory for all of them.
redis.call('XADD', KEYS[1], '*', 't', ARGV[5], 'n', ARGV[3], 'b', ARGV[6])
if redis.call('XLEN', KEYS[1]) == 1 then
  -- Now, because there is no memory for it later when the queue fills all of it. An error says that it is there.
  redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[7], '0')
end
redis.call('HINCRBY', KEYS[3], 'events', events)
redis.call('HINCRBY', KEYS[3], 'bytes', bytes)
return 1
