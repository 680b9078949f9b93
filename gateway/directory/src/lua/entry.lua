-- One entry is one hash: e (epoch, 20 digits), and with a home s (session), w (world server), i (its run), v (environment),
-- g (gateway). KEYS[1] is the entry; ARGV[1] its time to live in milliseconds.
--
-- Every script answers {word, unreadable, e, s, w, i, v, g} with the entry as it was, '' for what is not there.

local NOTHING = '00000000000000000000'
local key = KEYS[1]

-- Numbers here are doubles: above 2^53 epochs would run into one another. Halves of ten digits are exact.
local function above(a, b)
    local x, y = tonumber(string.sub(a, 1, 10)), tonumber(string.sub(b, 1, 10))
    if x ~= y then return x > y end
    return tonumber(string.sub(a, 11)) > tonumber(string.sub(b, 11))
end

local function name(text)
    return type(text) == 'string' and #text >= 1 and #text <= 80 and not string.find(text, '[%s%c]')
end

local function uuid(text)
    return type(text) == 'string' and #text == 36
        and string.find(text, '^%x+%-%x+%-%x+%-%x+%-%x+$') ~= nil
end

-- Changes nothing, whatever the key holds, and yet is refused wherever a write would be: by a replica that was our master (so
-- that nobody reads old entries there), and by a full memory (only a script's first write is measured against it).
local probe = redis.pcall('SETRANGE', key, 0, '')
if type(probe) == 'table' and probe.err and not string.find(probe.err, 'WRONGTYPE') then return probe end
local unreadable, missing = 0, true
local epoch, home = NOTHING, nil
local found = redis.pcall('HMGET', key, 'e', 's', 'w', 'i', 'v', 'g')
if found.err then
    unreadable = 1
else
    local e, s, w, i, v, g = found[1], found[2], found[3], found[4], found[5], found[6]
    if e and #e == 20 and string.find(e, '^%d+$') then
        epoch, missing = e, false
    elseif redis.call('EXISTS', key) == 1 then
        unreadable = 1
    end
    if s or w or i or v or g then
        if not missing and uuid(s) and name(w) and uuid(i) and name(v) and name(g) then
            home = {s, w, i, v, g}
        else
            unreadable = 1
        end
    end
end

local function answer(word)
    local h = home or {'', '', '', '', ''}
    return {word, unreadable, epoch, h[1], h[2], h[3], h[4], h[5]}
end

-- What could not be read goes; an epoch that could be read is never lowered, because all callers compare with it first.
local function set(e, s, w, i, v, g)
    if unreadable == 1 then redis.call('DEL', key) end
    redis.call('HSET', key, 'e', e, 's', s, 'w', w, 'i', i, 'v', v, 'g', g)
    redis.call('PEXPIRE', key, ARGV[1])
end

local function is(s, w, i, v, g)
    return home and home[1] == s and home[2] == w and home[3] == i and home[4] == v and home[5] == g
end
