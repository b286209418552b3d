-- part.lua reads a part of a record in flight that is too long for one reply.
--
-- KEYS[1]  in-flight hash of the run
-- ARGV[5]  delivery                ARGV[8]  bytes of a piece
-- ARGV[6]  first piece, from 0     ARGV[9]  how long the pieces are kept after
-- ARGV[7]  how many pieces                  the last call, ms
-- Reply    the pieces; none if the delivery is not in flight (any more)
--
-- A field of a hash has no range that could be read. The first call therefore
-- makes a list of the record's pieces, so that reading all of them copies the
-- record once and not once for each. The call that reads the last piece deletes
-- the list; a repeated call makes it anew.
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
