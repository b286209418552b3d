-- claiming.lua precedes the scripts that claim and holds their common part.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  turn of this claim
-- ARGV[6]  maximum number of records
-- ARGV[7]  maximum number of bytes; a first record may exceed it
-- ARGV[8]  highest sequence number that is used up
-- ARGV[9]  maximum number of bytes of records in the reply
-- ARGV[10] bytes of the head of a record that exceeds that
-- Returns  {first, records, used}: the first sequence number; the records in order,
--          nil for one that has ended, {length, head} for one that does not fit into
--          the reply; for each record with used attempts its position, their number
--          and the cause of the last one. Error GONE for a run that is not a member
--
-- The reply is bounded because Redis closes a connection whose unsent replies
-- exceed client-output-buffer-limit; the repeated claim would otherwise fail in the
-- same way. part.lua reads the rest of a record.
--
-- The last claim that took records is stored with its turn, so that a repeated call
-- after a lost reply returns the same records. A claim that the network delivers
-- after a later one is overtaken and takes nothing: its records would otherwise stay
-- in flight unknown to any sidecar. For the same reason a repeated claim takes nothing
-- if the first call found nothing: the other of the two calls may arrive long after the
-- sidecar has its answer. ARGV[8] protects against a failover to a server
-- that missed the last claims: a delivery id must never name two records.
if not member(RUN) then
  return gone()
end
local INBOX = S .. 'inbox:' .. RUN
check_types()
redis.call('LLEN', INBOX)
local meta = redis.call('HMGET', META, 'claim', 'first', 'last', 'seq', 'turn')
local records, bytes = {}, 0
local most, max_bytes = tonumber(ARGV[6]), math.min(tonumber(ARGV[7]), tonumber(ARGV[9]))

-- answer builds the reply. It hashes records only if attempts are stored at all.
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

-- MOST_CLAIMED is more than a claim can take. A value of another program as the last
-- number of a claim would otherwise keep Redis busy without end.
local MOST_CLAIMED = 65535

-- previous_answer returns the reply of a repeated or an overtaken claim. For a new
-- claim it stores the turn and returns nil.
local function previous_answer()
  if meta[1] == ARGV[5] then
    local first = tonumber(meta[2])
    for i = 0, math.min(tonumber(meta[3]) - first, MOST_CLAIMED) do
      local record = redis.call('HGET', INFLIGHT, RUN .. '.' .. first + i)
      records[#records + 1] = record
      bytes = bytes + (record and #record or 0)
    end
    return answer(first)
  end
  if (tonumber(meta[5]) or 0) >= tonumber(ARGV[5]) then
    return answer(0) -- overtaken, or this turn has found no record before
  end
  redis.call('HSET', META, 'turn', ARGV[5])
end

-- commit enters the records into the in-flight hash and returns the reply.
local function commit()
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
