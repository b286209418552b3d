package task

import (
	"strconv"
	"time"

	"github.com/graflow/graflow-sidecar/internal/jsonscan"
)

// scan reads the records that Graflow writes, and most others, without
// encoding/json, which took more time for a record than everything else that
// the sidecar does with it. It is as strict, and where it is not sure (an
// escape in one of its fields, a field that is there twice, a name in capitals, which
// encoding/json takes as well, anything that is wrong) it says no, and
// encoding/json decides. FuzzScan holds the two against each other.
//
// record is known to be UTF-8 and to begin with a brace.
func scan(record []byte) (Info, bool) {
	var info Info
	var timeout string
	var seen uint
	s := jsonscan.Scanner{Data: record}
	// One string for all fields costs less than one for each, but holds all of the
	// record.
	var whole string
	if len(record) <= smallRecord {
		whole = string(record)
	}
	field := func(from, to int) string {
		if whole != "" {
			return whole[from:to]
		}
		return string(record[from:to])
	}
	s.Space()
	s.Pos++ // the brace
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		var text *string
		number := false
		which := uint(0)
		switch string(name) {
		case "task_id":
			text, which = &info.TaskID, 1
		case "session_id":
			text, which = &info.SessionID, 2
		case "graph_hash":
			text, which = &info.GraphHash, 4
		case "group_id":
			text, which = &info.GroupID, 8
		case "trace_id":
			text, which = &info.TraceID, 16
		case "parent_span_id":
			text, which = &info.ParentSpanID, 32
		case "created_at":
			text, which, number = &info.CreatedAt, 64, true
		case "timeout":
			text, which, number = &timeout, 128, true
		default:
			if !lower(name) || !s.Value(maxDepth) {
				return info, false
			}
			continue
		}
		if seen&which != 0 {
			return info, false
		}
		seen |= which
		from := s.Pos
		switch c := s.Peek(); {
		case c == 'n':
			if !s.Literal("null") {
				return info, false
			}
		case number:
			if !s.Number() {
				return info, false
			}
			*text = field(from, s.Pos)
		case c == '"':
			if _, escaped, ok := s.Quoted(); !ok || escaped {
				return info, false
			}
			*text = field(from+1, s.Pos-1)
		default:
			return info, false
		}
	}
	if s.Problem != "" || !s.End() || info.TaskID == "" {
		return info, false
	}
	if timeout != "" {
		seconds, err := strconv.ParseFloat(timeout, 64)
		if err != nil || seconds < 0 || seconds > maxTimeoutSeconds {
			return info, false
		}
		info.Timeout = time.Duration(seconds * float64(time.Second))
	}
	return info, true
}

// maxDepth is how deep a value may nest here, below the 10,000 of encoding/json.
const maxDepth = 1000

// smallRecord is up to what length a record is held twice.
const smallRecord = 1024

// lower: a name that encoding/json cannot take for one of ours by folding cases.
func lower(name []byte) bool {
	for _, c := range name {
		if c >= 'A' && c <= 'Z' || c >= 0x80 {
			return false
		}
	}
	return true
}
