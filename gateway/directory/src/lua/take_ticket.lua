-- KEYS[1]: the ticket. ARGV: time to live in milliseconds, who takes it (of this one call: a repetition is no second use).
if redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[1]) then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[2] then return 1 end
return 0
