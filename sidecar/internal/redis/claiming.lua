-- claiming.lua stands before the scripts that claim: what is the same whatever
-- they take.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  turn of this claim        ARGV[7]  most bytes, but at least a record
-- ARGV[6]  most records              ARGV[8]  sequence numbers below or equal
--                                             to this one are used up
-- ARGV[9]  most bytes of records in the reply
-- ARGV[10] bytes of the head of a record that exceeds that
-- Reply    first sequence number; the records in order, nil for one that is
--          over, length and head for one that does not fit into the reply; then,
--          for each record with attempts used up: its place in that
--          order, how many, cause of the last one. Error GONE for a run that is
--          no member
--
-- The reply is bounded because Redis closes a connection whose unsent replies
-- exceed client-output-buffer-limit, and the repeated claim would meet the same
-- end. part.lua reads the rest of a record.
--
-- The last claim that brought something is kept by its turn, so that a retry
-- after a lost reply gets the same records. A claim that a network delivers when
-- a later one has been made is overtaken: nobody waits for it any more, and what
-- it took would lie in flight unknown to anybody. ARGV[8] guards against a failover to a server that
-- missed our last claims: a delivery id must never name two records.
if not member(RUN) then
  return gone()
end
local INBOX = S .. 'inbox:' .. RUN
check_types()
redis.call('LLEN', INBOX)
local meta = redis.call('HMGET', META, 'claim', 'first', 'last', 'seq', 'turn')
local records, bytes = {}, 0
local most, room = tonumber(ARGV[6]), math.min(tonumber(ARGV[7]), tonumber(ARGV[9]))

-- answer looks for attempts only where there are any at all: else no record
-- need be hashed.
local function answer(first)
  local used = {}
  if redis.call('HLEN', ATTEMPTS) > 0 then
    for i, record in ipairs(records) do
      local count, cause = 0, ''
      if record then
        count, cause = attempts(redis.sha1hex(record))
      end
      if cause ~= '' then
        local n = #used
        used[n + 1], used[n + 2], used[n + 3] = i, count, cause
      end
    end
  end
  local most_sent, head, sent = tonumber(ARGV[9]), tonumber(ARGV[10]), 0
  if bytes > most_sent then
    for i, record in ipairs(records) do
      if record and #record > head and sent + #record > most_sent then
        records[i] = { #record, string.sub(record, 1, head) }
        sent = sent + head
      elseif record then
        sent = sent + #record
      end
    end
  end
  return { first, records, used }
end

-- earlier answers a claim that was made before, or is overtaken; nil for a new
-- one, which is written down as the latest.
local function earlier()
  if meta[1] == ARGV[5] then
    local first = tonumber(meta[2])
    for seq = first, tonumber(meta[3]) do
      local record = redis.call('HGET', INFLIGHT, RUN .. '.' .. seq)
      records[#records + 1] = record
      bytes = bytes + (record and #record or 0)
    end
    return answer(first)
  end
  if (tonumber(meta[5]) or 0) > tonumber(ARGV[5]) then
    return answer(0) -- overtaken
  end
  redis.call('HSET', META, 'turn', ARGV[5])
end

-- own makes the records the run's and answers.
local function own()
  local first = math.max(tonumber(meta[4]) or 0, tonumber(ARGV[8])) + 1
  if #records > 0 then
    local last = first + #records - 1
    local fields = {}
    for i, record in ipairs(records) do
      fields[2 * i - 1], fields[2 * i] = string.format('%s.%d', RUN, first + i - 1), record
    end
    in_parts(fields, function(...) redis.call('HSET', INFLIGHT, ...) end)
    redis.call('HSET', META, 'claim', ARGV[5], 'first', first, 'last', last, 'seq', last)
  end
  return answer(first)
end
