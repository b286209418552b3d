-- part.lua reads a part of a record in flight that is too long for one reply.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  delivery
-- ARGV[6]  first piece, from 0
-- ARGV[7]  number of pieces
-- ARGV[8]  bytes of a piece
-- ARGV[9]  retention of the pieces after the last call, ms
-- Returns  the pieces; none if the delivery is not in flight
--
-- Redis cannot read a range of a hash field. The first call therefore splits the
-- record into a list of pieces, so that reading all pieces copies the record once and
-- not once for each. The call that reads the last piece deletes the list; a repeated
-- call makes it again.
local DELIVERY, FIRST, COUNT, PIECE = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local PARTS = S .. 'parts:' .. DELIVERY
redis.call('LLEN', PARTS)
if redis.call('HEXISTS', KEYS[1], DELIVERY) == 0 then
  redis.call('DEL', PARTS)
  return {}
end
if redis.call('EXISTS', PARTS) == 0 then
  local record = redis.call('HGET', KEYS[1], DELIVERY)
  local pieces = {}
  for at = 1, #record, PIECE do
    pieces[#pieces + 1] = string.sub(record, at, at + PIECE - 1)
  end
  in_parts(pieces, function(...) redis.call('RPUSH', PARTS, ...) end)
end
redis.call('PEXPIRE', PARTS, ARGV[9])
local got = redis.call('LRANGE', PARTS, FIRST, FIRST + COUNT - 1)
if FIRST + COUNT >= redis.call('LLEN', PARTS) then
  redis.call('DEL', PARTS)
end
return got
