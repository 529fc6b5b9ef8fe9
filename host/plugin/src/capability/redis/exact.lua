-- part * number / window in whole numbers: quotient and remainder. The product would need 74 bits, so ten bits of `number` are taken at a
-- time; with part <= window < 2^42 no step goes beyond the 53 bits that a double has.
local function share(part, number, window)
  local quotient, remainder = 0, 0
  for _, unit in ipairs({1073741824, 1048576, 1024, 1}) do
    local step = remainder * 1024 + part * (math.floor(number / unit) % 1024)
    remainder = step % window
    quotient = quotient * 1024 + (step - remainder) / window
  end
  return quotient, remainder
end

-- What is kept under a key: three whole numbers, for a time in milliseconds.
local function kept(key)
  local text = redis.call('GET', key)
  if not text then return nil end
  local first, second, third = string.match(text, '^(%d+) (%d+) (%d+)$')
  return tonumber(first), tonumber(second), tonumber(third)
end

local function keep(key, first, second, third, time)
  -- What is forgotten after a century is not missed.
  local expiry = string.format('%.0f', math.min(math.ceil(time) + 1, 4e12))
  redis.call('SET', key, string.format('%.0f %.0f %.0f', first, second, third), 'PX', expiry)
end
