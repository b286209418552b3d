// Package workerlog makes attributes of the sidecar's log from what workers log
// themselves, so that a search for a worker's request_id finds it like any other: a
// search does not find a string within a string. A worker must not be able to set the
// sidecar's own attributes, so a member with one of those names becomes worker_…, and
// so does a name that occurs twice. A number as a level is read as pino's: 30 is a
// warning in Python and an ordinary line in pino, but Python's JSON loggers write
// level names and pino writes numbers. Standard library only.
package workerlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
)

const (
	// MaxText is how many bytes of a text the log takes whole. A longer one keeps as
	// much of its head.
	MaxText = 16 << 10
	// KeptTail is how many bytes of the end of a longer text are kept beside its head:
	// the cause of a failure stands there.
	KeptTail = 4 << 10
	// worthLeavingOut keeps whole what would hardly become shorter.
	worthLeavingOut = 64
)

// ours are the names that the sidecar gives to the lines of workers. A name twice
// in one line is one that searches do not find, or find wrongly.
var ours = []string{
	slog.TimeKey, slog.LevelKey, slog.MessageKey, slog.SourceKey, "explain", Key, leftOut,
	"slot", "pid", "replica", "kind", "child", "worker_container",
}

// Where loggers of the field write the level and the words: Python's and Go's,
// zerolog, zap, pino, bunyan, structlog, Google's and Elastic's.
var (
	levelKeys = []string{"level", "severity", "levelname", "lvl", "log.level", "@level"}
	wordKeys  = []string{"message", "msg", "event", "@message"}
)

// critical is above all that the sidecar logs itself: with LOG_LEVEL=CRITICAL only
// such lines of workers are left.
const critical = slog.LevelError + 4

var levels = map[string]slog.Level{
	"trace": slog.LevelDebug, "debug": slog.LevelDebug,
	"info": slog.LevelInfo, "information": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn,
	"error": slog.LevelError, "err": slog.LevelError,
	"fatal": critical, "critical": critical, "panic": critical, "dpanic": critical, "alert": critical, "emergency": critical,
}

// Attrs are the level and the attributes of a line that a worker wrote; about are the
// sidecar's attributes, which say what the line belongs to. A JSON object is taken
// apart: its level becomes the line's, its message becomes Key as in other lines, and
// its other members stand beside it. Any other line is Key, at level info.
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

// HeadLevel is the level that the beginning of a longer JSON object tells, by the
// members that it holds whole; [slog.LevelInfo] where it tells none.
func HeadLevel(head []byte) slog.Level {
	dec := json.NewDecoder(bytes.NewReader(head))
	dec.UseNumber()
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return slog.LevelInfo
	}
	found := map[string]slog.Level{}
	for {
		name, err := dec.Token()
		key, ok := name.(string)
		if err != nil || !ok {
			break
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil {
			break
		}
		if slices.Contains(levelKeys, key) && len(v) <= maxKey {
			if level, ok := levelOf(scalar(v)); ok {
				found[key] = level
			}
		}
	}
	for _, key := range levelKeys {
		if level, ok := found[key]; ok {
			return level
		}
	}
	return slog.LevelInfo
}

// scalar reads a text or a number; nil for anything else.
func scalar(raw json.RawMessage) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	return v
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

// Text shortens a text that is longer than the log takes to its first [MaxText] and
// its last [KeptTail] bytes, with the number of those between them, at the ends of
// characters.
func Text(s string) string {
	if len(s) <= MaxText+KeptTail+worthLeavingOut {
		return s
	}
	return Ends([]byte(s[:MaxText]), []byte(s[len(s)-KeptTail:]), len(s))
}

// Ends writes a text of size bytes of which only the head and the tail are there.
// What of a character is cut off in them is left out, too.
func Ends(head, tail []byte, size int) string {
	for n := 1; n <= min(utf8.UTFMax-1, len(head)); n++ {
		if last := head[len(head)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				head = head[:len(head)-n]
			}
			break
		}
	}
	for n := 0; n < utf8.UTFMax-1 && len(tail) > 0 && !utf8.RuneStart(tail[0]); n++ {
		tail = tail[1:]
	}
	text := fmt.Sprintf("%s… %d bytes left out …%s", head, size-len(head)-len(tail), tail)
	return strings.ToValidUTF8(text, "\uFFFD")
}

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
		case n < 60:
			return slog.LevelError, true
		default:
			return critical, true
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
		case len(text) > MaxText:
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
