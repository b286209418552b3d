-- channel.lua stands in front of the scripts that change something because a
-- worker asked for it, in place of prelude.lua.
--
-- KEYS[1]  hash: the last change of each lane and what came of it
-- KEYS[2]  in-flight hash of the run
-- KEYS[3]  the key to change
-- ARGV[1]  delivery for which it is done, '' for one that may have ended
-- ARGV[2]  lane; ARGV[3]  turn in it
-- ARGV[4]  how long the lanes are remembered, ms
-- ARGV[5]  'grows' if the change needs memory, else ''
-- Reply    'ok' and a result; 'ended': the delivery is not in flight (any
--          more); 'kind': the key holds another kind of value; 'number': no
--          number that could be added to; 'overtaken': a later turn was here
--
-- The first command is a write that changes no decision, so that READONLY,
-- MISCONF and NOREPLICAS fail before anything is done. It is not the PEXPIRE of
-- the other scripts where the change needs memory: once a script has written,
-- Redis lets it write on when memory is full, which is right for a report that
-- must get through and wrong for what a worker adds at its pleasure.
--
-- A change is done once, however often it is sent: who got no reply sends the
-- same turn again and is told what came of it. A delivery that another sidecar
-- has taken over changes nothing any more, in the same step in which that is
-- looked up.
local ASKED, INFLIGHT, KEY = KEYS[1], KEYS[2], KEYS[3]
local LANE, TURN, KEEP = ARGV[2], tonumber(ARGV[3]), ARGV[4]
if ARGV[5] == 'grows' then
  redis.call('HSETNX', ASKED, LANE, '0 ')
else
  redis.call('PEXPIRE', ASKED, KEEP)
end
local last, verdict, result = string.match(redis.call('HGET', ASKED, LANE) or '0 ', '^(%d+) (%a*) ?(.*)$')
if tonumber(last) == TURN then
  return { verdict, result }
end
if tonumber(last) > TURN then
  return { 'overtaken', '' }
end
if ARGV[1] ~= '' and redis.call('HEXISTS', INFLIGHT, ARGV[1]) == 0 then
  return { 'ended', '' }
end

-- answer is what this turn comes to, now and when it is sent again.
local function answer(verdict, result)
  result = tostring(result or '')
  redis.call('HSET', ASKED, LANE, string.format('%d %s %s', TURN, verdict, result))
  redis.call('PEXPIRE', ASKED, KEEP)
  return { verdict, result }
end

-- attempt runs a command on KEY. What it says about the value there is an
-- answer; any other error ends the script.
local function attempt(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then
    return nil, answer('kind')
  end
  if string.find(reply.err, 'float', 1, true) or string.find(reply.err, 'NaN', 1, true) then
    return nil, answer('number')
  end
  return nil, reply
end
