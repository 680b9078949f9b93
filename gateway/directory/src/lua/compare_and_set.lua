
-- ARGV: ttl, expected, to, s, w, i, v, g
local expected, to = ARGV[2], ARGV[3]
local s, w, i, v, g = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
if epoch == to and is(s, w, i, v, g) then
    redis.call('PEXPIRE', key, ARGV[1])
    return answer('done')
end
if epoch ~= expected or not above(to, expected) then return answer('conflict') end
set(to, s, w, i, v, g)
return answer('done')
