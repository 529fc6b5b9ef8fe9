-- When the current window began, what was taken in it, and what in the one before.
local limit, window, cost, taking = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

local start, current, previous = kept(KEYS[1])
if not start then start, current, previous = now, 0, 0 end
-- The server's clock was set back: the window begins anew with what was taken in it.
local stepped = now < start
if stepped then start = now end

local elapsed = now - start
if elapsed >= 2 * window then
  start, current, previous = now, 0, 0
elseif elapsed >= window then
  start, current, previous = start + window, 0, current
end
elapsed = now - start

local carried = share(window - elapsed, previous, window)
local allowed = current + carried + cost <= limit
if taking then
  if allowed then current = current + cost end
  if (allowed or stepped) and current + previous > 0 then
    keep(KEYS[1], start, current, previous, (2 * window - elapsed) / 1000)
  elseif elapsed > 0 and current + previous == 0 then
    -- The next request begins a window.
    redis.call('DEL', KEYS[1])
  end
end
return {allowed and 1 or 0, elapsed, current, previous}
