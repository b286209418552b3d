-- channel.lua precedes every script that applies a change requested by a worker.
-- It replaces prelude.lua there.
--
-- KEYS[1]  hash: the last change of each lane and its result
-- KEYS[2]  in-flight hash of the run
-- KEYS[3]  the key to change
-- ARGV[1]  delivery that requests the change; '' if the delivery may have ended
-- ARGV[2]  lane
-- ARGV[3]  turn within the lane
-- ARGV[4]  retention of the lanes, ms
-- ARGV[5]  'grows' if the change needs memory, else ''
-- Returns  {verdict, result}. Verdicts: 'ok'; 'ended': the delivery is not in
--          flight; 'kind': the key holds a value of another type; 'number': the
--          value is not a number; 'overtaken': a later turn was applied before
--
-- The first command is a write that changes no decision, so that READONLY,
-- MISCONF and NOREPLICAS fail before any change. A change that needs memory does
-- not use the PEXPIRE of the other scripts: after a first write Redis lets a
-- script write on even when memory is full. Reports depend on that; changes by
-- workers must be refused.
--
-- Each change is applied once. A caller that got no reply repeats the turn and
-- receives the stored result. The in-flight check is part of the same step, so a
-- delivery that another sidecar has taken over changes nothing.
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

-- answer stores the result of this turn for repeated calls and returns it.
local function answer(verdict, result)
  result = tostring(result or '')
  redis.call('HSET', ASKED, LANE, string.format('%d %s %s', TURN, verdict, result))
  redis.call('PEXPIRE', ASKED, KEEP)
  return { verdict, result }
end

-- attempt runs a command on KEY. An error about the stored value becomes an
-- answer; any other error ends the script.
local function attempt(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then
    return reply
  end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then
    return nil, answer('kind')
  end
  if string.find(reply.err, 'valid float', 1, true) or string.find(reply.err, 'NaN', 1, true) then
    return nil, answer('number')
  end
  return nil, reply
end
