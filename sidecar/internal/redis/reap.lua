-- reap.lua returns a chunk of what a run that ended still held.
--
-- KEYS[1]  in-flight hash of the run that ended
-- ARGV[5]  the run that ended      ARGV[7]  most bytes in this chunk
-- ARGV[6]  most records likewise   ARGV[8]  most attempts of a record
-- ARGV[9]  sequence numbers that the caller has adopted under
-- ARGV[10] bytes of the head of a record   ARGV[11] bytes of heads at which it ends
-- Reply    1 if nothing is left, else 0; records returned; then for each
--          exhausted record: the caller's sequence number, length and head of
--          the record, attempts used up. Error GONE if the caller, reaping, is no member itself
--
-- The inbox goes first, at no cost, so that records in flight, which were
-- taken earlier, come to lie before it. A run that left in good order costs no
-- attempts; the death of one that held several records was shared. Exhausted
-- records move to the caller's in-flight hash in the same step, so that each
-- record is in one place at any time; the caller decodes them in Go and ends
-- them as dead. They are numbered from 2^40 on: who reaps need not know what
-- was claimed meanwhile, and no delivery id ever names two records.
local VICTIM = ARGV[5]
local INBOX, META_V = S .. 'inbox:' .. VICTIM, meta_of(VICTIM)
local most, room, max_attempts = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local ended = redis.call('HMGET', META_V, 'ended', 'held')
local costs = ended[1] ~= 'clean'
local shared = (tonumber(ended[2]) or 2) > 1 -- not written down: the mild way
if member(VICTIM) then
  return { 1, 0 }
end
if costs and not member(RUN) then
  return gone()
end
check_types()
local has_inbox, has_inflight = usable('LLEN', INBOX), usable('HLEN', KEYS[1])

local returned, moved, bytes, sent = 0, 0, 0, 0
local function full(record)
  moved, bytes = moved + 1, bytes + #record
  return moved >= most or bytes >= room or sent >= tonumber(ARGV[11])
end
local function back(record)
  redis.call(PUSH, QUEUE, record)
  returned = returned + 1
end

local stop = false
while has_inbox and not stop do
  local record = redis.call('RPOP', INBOX)
  if not record then
    break
  end
  back(record)
  stop = full(record)
end

local reply = { 0, 0 }
local seq = math.max(tonumber(redis.call('HGET', META, 'adopted')) or 0, tonumber(ARGV[9]), 2 ^ 40)
local adopted = false
for _, delivery in ipairs((stop or not has_inflight) and {} or descending(redis.call('HKEYS', KEYS[1]))) do
  local record = redis.call('HGET', KEYS[1], delivery)
  local count, exhausted = 0, false
  if costs then
    count, exhausted = lose(redis.sha1hex(record), max_attempts, shared, 'run')
  end
  if exhausted then
    seq, adopted = seq + 1, true
    redis.call('HSET', INFLIGHT, string.format('%s.%.0f', RUN, seq), record)
    local n = #reply
    local head = string.sub(record, 1, tonumber(ARGV[10]))
    reply[n + 1], reply[n + 2], reply[n + 3] = seq, { #record, head }, count
    sent = sent + #head
  else
    back(record)
  end
  redis.call('HDEL', KEYS[1], delivery)
  if full(record) then
    break
  end
end
if adopted then
  redis.call('HSET', META, 'adopted', string.format('%.0f', seq))
end
if (not has_inbox or redis.call('EXISTS', INBOX) == 0) and (not has_inflight or redis.call('EXISTS', KEYS[1]) == 0) then
  redis.call('DEL', META_V, S .. 'asked:' .. VICTIM)
  reply[1] = 1
end
reply[2] = returned
return reply
