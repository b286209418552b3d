package subproc

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strconv"
	"strings"
)

// A worker that logs JSON has its members merged into our line, so that whoever
// reads logs by machine finds them where they look for them, and not in a string.

// maxMembers bounds what is merged of one line; the rest stays in it as text.
const maxMembers = 40

// ours are keys of our own lines, which a member of the same name must not hide.
var ours = []string{
	slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey, "line", "slot", "pid", "task_id", "delivery", "kind", "replica", "see",
}

var (
	levelKeys   = []string{"level", "levelname", "severity", "lvl", "log.level"}
	messageKeys = []string{"msg", "message", "event"}
)

// merged is a line of a worker's log as attributes: its message as "line", its
// level, and all else under its own name, behind worker_ where that is one of ours.
// ok is false for a line that is no JSON object, or too large a one.
func merged(text string) (level slog.Level, attrs []any, ok bool) {
	level = slog.LevelInfo
	if !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		return level, nil, false
	}
	d := json.NewDecoder(strings.NewReader(text))
	if _, err := d.Token(); err != nil {
		return level, nil, false
	}
	for n := 0; d.More(); n++ {
		key, err := d.Token()
		if err != nil || n == maxMembers {
			return level, nil, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return level, nil, false
		}
		name := key.(string)
		switch {
		case slices.Contains(levelKeys, strings.ToLower(name)):
			l, known := levelOf(raw)
			if known {
				level = l
				continue
			}
		case slices.Contains(messageKeys, strings.ToLower(name)) && raw[0] == '"':
			name = "line"
			attrs = append(attrs, name, plain(raw))
			continue
		}
		if slices.Contains(ours, name) {
			name = "worker_" + name
		}
		attrs = append(attrs, name, plain(raw))
	}
	if _, err := d.Token(); err != nil || d.More() {
		return level, nil, false
	}
	if int(d.InputOffset()) != len(text) {
		return level, nil, false
	}
	return level, attrs, true
}

// levelOf reads the names that loggers use, and the numbers of Python's (10 to 50)
// and pino's (10 to 60).
func levelOf(raw json.RawMessage) (slog.Level, bool) {
	if n, err := strconv.Atoi(string(raw)); err == nil {
		switch {
		case n >= 40:
			return slog.LevelError, true // Python's ERROR; pino's warning is one, too
		case n >= 30:
			return slog.LevelWarn, true
		case n >= 20:
			return slog.LevelInfo, true
		default:
			return slog.LevelDebug, true
		}
	}
	var name string
	if json.Unmarshal(raw, &name) != nil {
		return 0, false
	}
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug, true
	case "info", "information", "notice":
		return slog.LevelInfo, true
	case "warn", "warning":
		return slog.LevelWarn, true
	case "error", "err", "critical", "crit", "fatal", "panic", "alert", "emergency":
		return slog.LevelError, true
	default:
		return 0, false
	}
}

// plain is a value as a log handler writes it best.
func plain(raw json.RawMessage) any {
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	case 't':
		return true
	case 'f':
		return false
	}
	return value{string(bytes.TrimSpace(raw))}
}

// value is JSON that stays what it is in JSON, and is text in text.
type value struct{ text string }

// MarshalJSON is json.Marshaler's.
func (v value) MarshalJSON() ([]byte, error) { return []byte(v.text), nil }

// MarshalText is encoding.TextMarshaler's.
func (v value) MarshalText() ([]byte, error) { return []byte(v.text), nil }

// String is for handlers that know neither.
func (v value) String() string { return v.text }
