-- KEYS[1]: the mark of this incarnation of the directory. ARGV[1]: what to write if there is none.
-- Answers {mark, made just now, the server's run}.

-- Changes nothing, but is refused wherever a write would be: by a replica, a full memory, a disk that fails.
redis.call('SETRANGE', KEYS[1], 0, '')
local run = ''
local info = redis.pcall('INFO', 'server')
if type(info) == 'string' then run = string.match(info, 'run_id:(%x+)') or '' end
local mark = redis.call('GET', KEYS[1])
if mark then return {mark, 0, run} end
redis.call('SET', KEYS[1], ARGV[1])
return {ARGV[1], 1, run}
