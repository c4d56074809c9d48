-- Keeps a value together with the generations of its tags.
-- KEYS: value, then the tags. ARGV: ttl in milliseconds, head (without generations), body, hash of each tag,
-- then either nothing or the generation of each tag as it was before the value was computed.
-- A tag without a generation gets the server's time, which no earlier value can carry.
local ttl = tonumber(ARGV[1])
local tags = #KEYS - 1
local time = redis.call('TIME')
local fresh = string.format('%.0f', time[1] * 1000000 + time[2])
local head = {ARGV[2]}
for index = 1, tags do
  local key = KEYS[index + 1]
  local generation = redis.call('GET', key)
  if not generation then
    generation = fresh
    redis.call('SET', key, generation, 'PX', ttl)
  elseif redis.call('PTTL', key) < ttl then
    redis.call('PEXPIRE', key, ttl)
  end
  local known = ARGV[3 + tags + index]
  table.insert(head, ' ' .. ARGV[3 + index] .. '=' .. (known or generation))
end
table.insert(head, '\n')
redis.call('SET', KEYS[1], table.concat(head) .. ARGV[3], 'PX', ttl)
