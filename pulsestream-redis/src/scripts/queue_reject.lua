-- Puts batches back: each becomes a new entry, which wakes a waiting worker, and remembers how often it was handed out.
-- KEYS: batches, dead. ARGV: group, most deliveries (0 makes dead letters of all), whether this delivery counts (1 or 0),
-- why it died, then ids. Returns how many died.
local group, most, counted, dead = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), 0
for index = 5, #ARGV do
  local id = ARGV[index]
  -- An error says that there is no group, and so nothing that was handed out.
  local pending = redis.pcall('XPENDING', KEYS[1], group, id, id, 1)[1]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  -- Frees before it adds, so that it works at the memory limit too.
  if pending and redis.call('XACK', KEYS[1], group, id) == 1 and entry then
    redis.call('XDEL', KEYS[1], id)
    local earlier, kept = pending[4] - 1 + counted, {}
    for at = 1, #entry[2], 2 do
      local name, value = entry[2][at], entry[2][at + 1]
      if name == 'd' then
        earlier = earlier + tonumber(value)
      else
        table.insert(kept, name)
        table.insert(kept, value)
      end
    end
    if counted == 1 and earlier >= most then
      redis.call('XADD', KEYS[2], '*', 'r', earlier, 'w', ARGV[4], unpack(kept))
      dead = dead + 1
    else
      redis.call('XADD', KEYS[1], '*', 'd', earlier, unpack(kept))
    end
  end
end
return dead
