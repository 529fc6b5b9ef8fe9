-- What is spent: whole units, the rest of one in 1/window, and the time at which that was true.
local limit, window, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local taking, burst = ARGV[4] == '1', tonumber(ARGV[5])

local units, rest, at = kept(KEYS[1])
if not units then units, rest, at = 0, 0, now end
-- The server's clock was set back: nothing comes back for that time, and it goes on from here.
local stepped = now < at
if stepped then at = now end

local elapsed = now - at
local part = elapsed % window
local back, back_rest = share(part, limit, window)
-- Beyond 2^53 it is not exact, and larger than whatever is spent.
back = back + (elapsed - part) / window * limit
if back > units or (back == units and back_rest >= rest) then
  units, rest = 0, 0
else
  units, rest = units - back, rest - back_rest
  if rest < 0 then units, rest = units - 1, rest + window end
end

local wanted = units + cost
local allowed = wanted < burst or (wanted == burst and rest == 0)
if taking then
  if allowed then units = wanted end
  if (allowed or stepped) and units + rest > 0 then
    keep(KEYS[1], units, rest, now, (units + 1) * window / limit / 1000)
  end
end
return {allowed and 1 or 0, units, rest, 0}
