// Package workerlog makes attributes of the sidecar's log from what workers log
// themselves, so that a search for a worker's request_id finds it like any other.
// Standard library only.
package workerlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// Key is the attribute with what a worker says in words.
	Key = "line"
	// leftOut is the one that counts members which are too many.
	leftOut = "members_left_out"

	maxMembers = 64
	maxKey     = 64
	maxText    = 16 << 10 // as long as a line of stderr may be
)

// ours are the names that the sidecar gives to the lines of workers. A name twice
// in one line is one that searches do not find, or find wrongly.
var ours = []string{
	slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey, "see", Key, leftOut,
	"slot", "pid", "replica", "kind", "child", "worker_container",
}

// Where loggers of the field write the level and the words: Python's and Go's,
// zerolog, zap, pino, bunyan, structlog, Google's and Elastic's.
var (
	levelKeys = []string{"level", "severity", "levelname", "lvl", "log.level", "@level"}
	wordKeys  = []string{"message", "msg", "event", "@message"}
)

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug,
	"info": slog.LevelInfo, "information": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn,
	"error": slog.LevelError, "err": slog.LevelError, "fatal": slog.LevelError, "critical": slog.LevelError,
	"panic": slog.LevelError, "dpanic": slog.LevelError, "alert": slog.LevelError, "emergency": slog.LevelError,
}

// Attrs are the level and the attributes of a line that a worker wrote; about are
// those of the sidecar, which say whom it is of. A JSON object is taken apart: its
// level is the line's, its words are what other lines have as Key, and the other
// members stand beside it. Any other line is Key, at level info.
func Attrs(text string, about []any) (slog.Level, []any) {
	members := object(text)
	if members == nil {
		return slog.LevelInfo, append([]any{Key, text}, about...)
	}
	level := slog.LevelInfo
	for _, key := range levelKeys {
		if known, ok := levelOf(members[key]); ok {
			level = known
			delete(members, key)
			break
		}
	}
	var attrs []any
	for _, key := range wordKeys {
		if words, ok := members[key].(string); ok {
			attrs = []any{Key, words}
			delete(members, key)
			break
		}
	}
	return level, Merge(append(attrs, about...), members)
}

// Merge appends members to attributes of a line, by their names. One whose name is
// taken is called worker_…; what has no end is cut. Objects and arrays stay what
// they are.
func Merge(attrs []any, members map[string]any) []any {
	taken := make(map[string]bool, len(ours)+len(attrs)/2+len(members))
	for _, name := range ours {
		taken[name] = true
	}
	for i := 0; i < len(attrs); i += 2 {
		if name, ok := attrs[i].(string); ok {
			taken[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(members))
	for i, name := range names {
		if i == maxMembers {
			return append(attrs, leftOut, len(names)-maxMembers)
		}
		free := Cut(name, maxKey)
		for free == "" || taken[free] {
			free = "worker_" + free
		}
		taken[free] = true
		attrs = append(attrs, free, value(members[name]))
	}
	return attrs
}

// Cut shortens a text to at most limit bytes, at the end of a character.
func Cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// Text is Cut to what a line of the log may hold.
func Text(s string) string { return Cut(s, maxText) }

// object reads a line that is one JSON object; nil for any other.
func object(text string) map[string]any {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "{") || !strings.HasSuffix(text, "}") {
		return nil // most lines
	}
	members, err := Decode([]byte(text))
	if err != nil || len(members) == 0 {
		return nil
	}
	return members
}

// Decode reads a JSON object and keeps its numbers digit for digit.
func Decode(text []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var members map[string]any
	if err := dec.Decode(&members); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one value")
	}
	return members, nil
}

// levelOf reads a level by its name or by pino's number, which bunyan has too.
func levelOf(v any) (slog.Level, bool) {
	switch v := v.(type) {
	case string:
		level, ok := levels[strings.ToLower(strings.TrimSpace(v))]
		return level, ok
	case json.Number:
		n, err := strconv.Atoi(v.String())
		switch {
		case err != nil || n < 10 || n > 60:
			return 0, false
		case n < 30:
			return slog.LevelDebug, true
		case n < 40:
			return slog.LevelInfo, true
		case n < 50:
			return slog.LevelWarn, true
		default:
			return slog.LevelError, true
		}
	default:
		return 0, false
	}
}

// value is a member as an attribute.
func value(v any) any {
	switch v := v.(type) {
	case string:
		return Text(v)
	case json.Number:
		if len(v) > maxKey {
			return Cut(v.String(), maxKey) // a number of a thousand digits
		}
		return v
	case map[string]any, []any:
		text, err := json.Marshal(v)
		switch {
		case err != nil:
			return err.Error()
		case len(text) > maxText:
			return Text(string(text))
		}
		return nested(text)
	default:
		return v
	}
}

// nested is JSON that stays JSON in a JSON log, and is readable in any other.
type nested json.RawMessage

func (n nested) MarshalJSON() ([]byte, error) { return n, nil }
func (n nested) MarshalText() ([]byte, error) { return n, nil }
func (n nested) String() string               { return string(n) }
