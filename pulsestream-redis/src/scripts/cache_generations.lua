-- Returns the generation of each tag; one that has none gets the server's time.
-- KEYS: tags. ARGV: for how long a new generation is kept, in milliseconds.
local time = redis.call('TIME')
local fresh = string.format('%.0f', time[1] * 1000000 + time[2])
local generations = {}
for index = 1, #KEYS do
  redis.call('SET', KEYS[index], fresh, 'NX', 'PX', ARGV[1])
  generations[index] = redis.call('GET', KEYS[index])
end
return generations
