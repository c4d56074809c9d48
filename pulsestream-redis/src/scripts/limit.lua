-- Takes from a rate limit: the generic cell rate algorithm as in pulsestream_core::ports::rate_limiter::gcra.
-- KEYS: state. ARGV: interval in microseconds, burst, cost, time in microseconds or '' for the server's, 'part' to take what is
-- left when that is less than the cost, as in gcra_up_to.
-- Returns what was spent before, in microseconds.
local interval, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(ARGV[4])
local grace = 60000
if not now then
  grace = 0
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local refill = interval * burst
local state = tonumber(redis.call('GET', KEYS[1])) or 0
local spent = math.min(math.max(state, now), now + refill) - now
if ARGV[5] == 'part' then
  cost = math.min(cost, math.floor((refill - spent) / interval))
end
local kept = spent + interval * cost
if kept > refill then
  kept = spent
end
if kept == 0 then
  redis.call('DEL', KEYS[1])
else
  -- %.0f, because Lua writes large numbers with an exponent. The key goes when everything has come back; a time that is
  -- given may go slower than the one keys expire by.
  redis.call('SET', KEYS[1], string.format('%.0f', now + kept), 'PX', math.ceil(kept / 1000) + grace)
end
return spent
