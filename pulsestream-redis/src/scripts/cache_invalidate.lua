-- Gives a tag a new generation, so that no value that carries an earlier one is returned again.
-- KEYS: tag. ARGV: for how long a tag without values is kept, in milliseconds.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = tonumber(redis.call('GET', KEYS[1])) or 0
local ttl = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.0f', math.max(before + 1, now)), 'PX', ttl)
