-- Removes batches that are stored.
-- KEYS: batches, dead, used. ARGV: group, then id, events, bytes of each.
for index = 2, #ARGV, 3 do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[index])
  if redis.call('XDEL', KEYS[1], ARGV[index]) == 1 then
    redis.call('HINCRBY', KEYS[3], 'events', -ARGV[index + 1])
    redis.call('HINCRBY', KEYS[3], 'bytes', -ARGV[index + 2])
  end
end
if redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[3])
end
