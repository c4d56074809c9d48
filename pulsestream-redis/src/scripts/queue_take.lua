-- Takes batches: first those whose worker went silent, then new ones.
-- KEYS: batches, dead. ARGV: group, worker, silent for so many milliseconds, most batches, most deliveries, why it died.
-- A batch that was handed out half as often as it may be is handed out alone: whoever dies of one takes no others along.
-- Returns how many pending batches were gone from the stream, how many became dead letters, and the batches, each as id,
-- deliveries before this one, fields.
local group, worker, limit, most = ARGV[1], ARGV[2], tonumber(ARGV[4]), tonumber(ARGV[5])
-- Answers with an error when the group is there, which is how it is meant.
redis.pcall('XGROUP', 'CREATE', KEYS[1], group, '0', 'MKSTREAM')

local gone, dead, taken, alone = 0, 0, {}, false
local silent = redis.call('XPENDING', KEYS[1], group, 'IDLE', ARGV[3], '-', '+', limit)
for _, pending in ipairs(silent) do
  local id, deliveries = pending[1], pending[4]
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not entry then
    redis.call('XACK', KEYS[1], group, id)
    gone = gone + 1
  else
    local fields, earlier = entry[2], deliveries
    for index = 1, #fields, 2 do
      if fields[index] == 'd' then earlier = earlier + tonumber(fields[index + 1]) end
    end
    if earlier >= most then
      -- Frees before it adds, so that it works at the memory limit too.
      redis.call('XACK', KEYS[1], group, id)
      redis.call('XDEL', KEYS[1], id)
      redis.call('XADD', KEYS[2], '*', 'r', earlier, 'w', ARGV[6], unpack(fields))
      dead = dead + 1
    else
      local is_suspect = earlier * 2 >= most
      if not is_suspect or #taken == 0 then
        redis.call('XCLAIM', KEYS[1], group, worker, 0, id)
        table.insert(taken, {id, deliveries, fields})
        alone = is_suspect
      end
    end
  end
  if alone then return {gone, dead, taken} end
end

if #taken < limit then
  local new = redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', limit - #taken, 'STREAMS', KEYS[1], '>')
  if new then
    for _, entry in ipairs(new[1][2]) do
      table.insert(taken, {entry[1], 0, entry[2]})
    end
  end
end
return {gone, dead, taken}
