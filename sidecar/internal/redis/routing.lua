-- routing.lua precedes the scripts that route a record by its task id. It reads the
-- task id and finds the first matching pattern. It scans JSON itself, because a
-- malformed record makes Redis' own decoder fail the script.
--
-- KEYS     none; those of the script that follows
-- ARGV     none; those of the script that follows
-- Returns  nothing; the script that follows returns the reply

local UNROUTED = S .. 'unrouted'

local NAMED = { b = '\b', f = '\f', n = '\n', r = '\r', t = '\t', ['"'] = '"', ['\\'] = '\\', ['/'] = '/' }

-- in_utf8 returns the UTF-8 bytes of a character.
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

-- unescaped decodes the content of a JSON string; nil if it is malformed. Half a
-- surrogate pair becomes U+FFFD, as in Go.
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

-- text_end returns the position of the quote that ends the JSON string begun at `at`.
local function text_end(record, at)
  repeat
    at = string.find(record, '["\\]', at + 1)
    if not at or string.byte(record, at) == 34 then
      return at
    end
    at = at + 1 -- the escaped character
  until false
end

-- is_task_id reports whether the JSON string between two quotes is task_id. Its case is
-- ignored, as in Go.
local function is_task_id(record, first, last)
  if last - first > 64 then
    return false
  end
  local text = unescaped(string.sub(record, first + 1, last - 1))
  return text and string.lower(text) == 'task_id'
end

-- task_id returns the task id of a record, or nil if it cannot be read: the sidecar then
-- decides with a full decoder. It skips a task_id in a nested object or within a string,
-- and accepts any bytes, unlike Redis' own decoder. Graflow's records begin with it.
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
      if depth == 1 and is_task_id(record, begins, at) and string.find(record, '^%s*:', at + 1) then
        local _, quote = string.find(record, '^%s*:%s*"', at + 1)
        local last = quote and text_end(record, quote)
        return last and unescaped(string.sub(record, quote + 1, last - 1))
      end
    elseif c == '{' or c == '[' then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
end

-- compile turns a pattern (package route has the same rules) into Lua patterns: its
-- parts between the stars, with the outer parts anchored.
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

-- compile_all compiles the patterns of a run, one a line.
local function compile_all(text)
  local all = {}
  for glob in string.gmatch(text, '[^\n]+') do
    all[#all + 1] = compile(glob)
  end
  return all
end

-- matches searches each part behind the one before. The first match of a part suffices,
-- since a star follows it.
local function matches(parts, id)
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

-- kind returns the number of the first pattern that matches: 0 if the task id cannot be
-- read, -1 if no pattern matches.
local function kind(patterns, record)
  local id = task_id(record)
  if not id then
    return 0
  end
  for i, parts in ipairs(patterns) do
    if matches(parts, id) then
      return i
    end
  end
  return -1
end

-- stamped prefixes an unrouted record with the time at which it became unrouted.
local function stamped(at, record)
  return string.format('%.0f:', at) .. record
end

local function unstamped(entry)
  local at, record = string.match(entry, '^(%d+):(.*)$')
  return tonumber(at) or 0, record or entry
end
