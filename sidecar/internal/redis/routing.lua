-- routing.lua stands before the scripts that look at what a record's task is
-- called: which task that is, and which of several patterns fits. It reads JSON
-- by itself: poison breaks the decoder that Redis has.
--
-- KEYS[1], ARGV and Reply are those of the script behind it

local UNROUTED = S .. 'unrouted'

local NAMED = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }

-- in_utf8 is a character in bytes.
local function in_utf8(n)
  local function tail(shift)
    return string.char(128 + math.floor(n / shift) % 64)
  end
  if n < 128 then
    return string.char(n)
  elseif n < 2048 then
    return string.char(192 + math.floor(n / 64)) .. tail(1)
  elseif n < 65536 then
    return string.char(224 + math.floor(n / 4096)) .. tail(64) .. tail(1)
  end
  return string.char(240 + math.floor(n / 262144)) .. tail(4096) .. tail(64) .. tail(1)
end

-- unescaped is a JSON text without its quotes, as it reads; nil if it is none.
-- Half a surrogate pair is U+FFFD, as in Go.
local function unescaped(text)
  local out, at = {}, 1
  while true do
    local slash = string.find(text, '\\', at, true)
    out[#out + 1] = string.sub(text, at, (slash or 0) - 1)
    if not slash then
      return table.concat(out)
    end
    local c = string.sub(text, slash + 1, slash + 1)
    at = slash + 2
    if c == 'u' then
      local digits = string.match(text, '^%x%x%x%x', at)
      if not digits then
        return nil
      end
      local n = tonumber(digits, 16)
      at = at + 4
      if n >= 0xD800 and n < 0xE000 then
        local low = n < 0xDC00 and string.match(text, '^\\u([dD][c-fC-F]%x%x)', at)
        if low then
          n = 0x10000 + (n - 0xD800) * 1024 + tonumber(low, 16) - 0xDC00
          at = at + 6
        else
          n = 0xFFFD
        end
      end
      c = in_utf8(n)
    else
      c = NAMED[c]
    end
    if not c then
      return nil
    end
    out[#out + 1] = c
  end
end

-- text_end is the place of the quote that ends the text begun at a place.
local function text_end(record, at)
  repeat
    at = string.find(record, '["\\]', at + 1)
    if not at or string.byte(record, at) == 34 then
      return at
    end
    at = at + 1 -- whatever is escaped
  until false
end

-- named: the text between two quotes is task_id, in whatever case, which is how
-- Go reads it.
local function named(record, first, last)
  if last - first > 64 then
    return false
  end
  local text = unescaped(string.sub(record, first + 1, last - 1))
  return text and string.lower(text) == 'task_id'
end

-- task_id is the record's, or nil where it cannot be told; the sidecar, which
-- reads the record with a real decoder, then decides. It must not be fooled by a
-- task_id deeper down or in a text, and it must stand any bytes at all, which
-- Redis' own decoder does not. Graflow's own records have it first.
local function task_id(record)
  local id = string.match(record, '^%s*{%s*"task_id"%s*:%s*"([^"\\%c]*)"')
  if id then
    return id
  end
  local depth, at = 0, 0
  while true do
    at = string.find(record, '["%[%]{}]', at + 1)
    if not at then
      return nil
    end
    local c = string.sub(record, at, at)
    if c == '"' then
      local begins = at
      at = text_end(record, at)
      if not at then
        return nil
      end
      if depth == 1 and named(record, begins, at) and string.find(record, '^%s*:', at + 1) then
        local _, quote = string.find(record, '^%s*:%s*"', at + 1)
        local last = quote and text_end(record, quote)
        return last and unescaped(string.sub(record, quote + 1, last - 1)) or nil
      end
    elseif c == '{' or c == '[' then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
end

-- compile makes of a pattern (package route has the same ones) what string.find
-- takes: its parts between the stars, the outer ones tied to the ends.
local ONE = '[^\128-\191][\128-\191]*' -- a character in UTF-8
local function compile(glob)
  local parts, part, at = {}, '', 1
  while at <= #glob do
    local c = string.sub(glob, at, at)
    if c == '*' then
      parts[#parts + 1] = part -- (in one assignment miniredis has it empty)
      part = ''
    elseif c == '?' then
      part = part .. ONE
    else
      if c == '\\' then
        at = at + 1
        c = string.sub(glob, at, at)
      end
      part = part .. (string.gsub(c, '%p', '%%%0'))
    end
    at = at + 1
  end
  parts[#parts + 1] = part .. '$'
  parts[1] = '^' .. parts[1]
  return parts
end

-- compile_all reads the patterns of a run, one a line.
local function compile_all(text)
  local all = {}
  for glob in string.gmatch(text, '[^\n]+') do
    all[#all + 1] = compile(glob)
  end
  return all
end

-- fits: a part is looked for behind the one before. The first place where it is
-- found is as good as any later one, for what follows is a star.
local function fits(parts, id)
  local at = 1
  for i, part in ipairs(parts) do
    if part ~= '' then
      local _, last = string.find(id, part, at)
      if not last then
        return false
      end
      at = last + 1
    end
  end
  return true
end

-- kind is the number of the first pattern that fits: 0 where the task cannot be
-- told, -1 where none fits.
local function kind(patterns, record)
  local id = task_id(record)
  if not id then
    return 0
  end
  for i, parts in ipairs(patterns) do
    if fits(parts, id) then
      return i
    end
  end
  return -1
end

-- An unrouted record is kept behind the time at which it came there.
local function stamped(at, record)
  return string.format('%.0f:', at) .. record
end

local function unstamped(entry)
  local at, record = string.match(entry, '^(%d+):(.*)$')
  return tonumber(at) or 0, record or entry
end
