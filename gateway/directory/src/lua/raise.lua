
-- ARGV: ttl, epoch, s, w, i, v, g
local e = ARGV[2]
local s, w, i, v, g = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
if epoch == e and is(s, w, i, v, g) then
    redis.call('PEXPIRE', key, ARGV[1])
    return answer('done')
end
if above(epoch, e) or (epoch == e and home) then return answer('conflict') end
set(e, s, w, i, v, g)
return answer('done')
