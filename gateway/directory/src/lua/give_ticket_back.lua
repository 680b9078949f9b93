-- KEYS[1]: the ticket. ARGV[1]: the gateway's run that took it; what another one took is not ours to give back.
local by = redis.call('GET', KEYS[1])
if by and string.sub(by, 1, #ARGV[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
