-- Puts dead letters back into the queue, or removes them.
-- KEYS: batches, dead, used. ARGV: `replay` or `discard`, then id, events, bytes of each. Returns how many were there.
local count = 0
for index = 2, #ARGV, 3 do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[index], ARGV[index])[1]
  if entry then
    redis.call('XDEL', KEYS[2], ARGV[index])
    count = count + 1
    if ARGV[1] == 'replay' then
      local kept = {}
      for at = 1, #entry[2], 2 do
        local name = entry[2][at]
        if name ~= 'd' and name ~= 'r' and name ~= 'w' then
          table.insert(kept, name)
          table.insert(kept, entry[2][at + 1])
        end
      end
      redis.call('XADD', KEYS[1], '*', unpack(kept))
    else
      redis.call('HINCRBY', KEYS[3], 'events', -ARGV[index + 1])
      redis.call('HINCRBY', KEYS[3], 'bytes', -ARGV[index + 2])
    end
  end
end
return count
