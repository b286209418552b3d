-- reap.lua requeues a chunk of the records that an ended run had in flight or in its
-- inbox.
--
-- KEYS[1]  in-flight hash of the run that ended
-- ARGV[5]  the run that ended
-- ARGV[6]  maximum number of records in this chunk
-- ARGV[7]  maximum number of bytes in this chunk
-- ARGV[8]  maximum number of attempts of a record
-- ARGV[9]  highest sequence number of the caller's adopted records
-- ARGV[10] bytes of the head of a record
-- ARGV[11] bytes of heads at which the chunk ends
-- Returns  1 if nothing is left, else 0; number of requeued records; then for each
--          exhausted record: the caller's sequence number, {length, head} and used
--          attempts. Error GONE if the run died and the caller is not a member
--
-- The inbox is requeued first, at no cost, so that the records in flight, which were
-- claimed earlier, come before it. A run that left costs no attempts; the death of a
-- run with several records in flight is a shared loss. Exhausted records move to the
-- caller's in-flight hash in the same step, so that each record is in one place at
-- any time; the caller decodes them and ends them as dead letters. Their sequence
-- numbers start at 2^40: the caller need not know the numbers of concurrent claims,
-- and a delivery id never names two records.
local VICTIM = ARGV[5]
local INBOX, META_V = S .. 'inbox:' .. VICTIM, meta_of(VICTIM)
local most, max_bytes, max_attempts = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local ended = redis.call('HMGET', META_V, 'ended', 'held')
local costs = ended[1] ~= 'clean'
local shared = (tonumber(ended[2]) or 2) > 1 -- a missing number counts as several
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
  return moved >= most or bytes >= max_bytes or sent >= tonumber(ARGV[11])
end
local function requeue(record)
  redis.call(PUSH, QUEUE, record)
  returned = returned + 1
end

local stop = false
while has_inbox and not stop do
  local record = redis.call('RPOP', INBOX)
  if not record then
    break
  end
  requeue(record)
  stop = full(record)
end

local reply = { 0, 0 }
local seq = math.max(tonumber(redis.call('HGET', META, 'adopted')) or 0, tonumber(ARGV[9]), 2 ^ 40)
local adopted = false
for _, delivery in ipairs((stop or not has_inflight) and {} or descending(redis.call('HKEYS', KEYS[1]))) do
  local record = redis.call('HGET', KEYS[1], delivery)
  local count, exhausted = 0, false
  if costs then
    count, exhausted = record_loss(redis.sha1hex(record), max_attempts, shared, 'run')
  end
  if exhausted then
    seq, adopted = seq + 1, true
    redis.call('HSET', INFLIGHT, string.format('%s.%.0f', RUN, seq), record)
    local n = #reply
    local head = string.sub(record, 1, tonumber(ARGV[10]))
    reply[n + 1], reply[n + 2], reply[n + 3] = seq, { #record, head }, count
    sent = sent + #head
  else
    requeue(record)
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
