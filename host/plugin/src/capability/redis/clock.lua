-- The server's own clock in microseconds: below 2^53 until 2255, so that a double holds it.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
