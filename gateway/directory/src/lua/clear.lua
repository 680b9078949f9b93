
-- ARGV: ttl, epoch, session
local e, s = ARGV[2], ARGV[3]
if missing then return answer('done') end
if epoch ~= e or (home and home[1] ~= s) then return answer('conflict') end
redis.call('DEL', key)
redis.call('HSET', key, 'e', e)
redis.call('PEXPIRE', key, ARGV[1])
return answer('done')
