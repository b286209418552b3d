package task

import (
	"encoding/binary"
	"encoding/json"
	"strconv"
	"time"
)

// scan reads the records that Graflow writes, and most others, without
// encoding/json, which took more time for a record than everything else that
// the sidecar does with it. It is as strict, and where it is not sure (a string
// with an escape, a member that is there twice, a name in capitals, which
// encoding/json takes as well, anything that is wrong) it says no, and
// encoding/json decides. FuzzDecode holds the two against each other.
//
// record is known to be UTF-8 and to begin with a brace.
func scan(record []byte) (Info, bool) {
	var info Info
	var timeout string
	var seen uint
	s := scanner{text: record}
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
	s.space()
	s.at++ // the brace
	for first := true; ; first = false {
		s.space()
		if s.take('}') {
			s.space()
			if s.at != len(record) || info.TaskID == "" || first {
				return info, false
			}
			break
		}
		if !first {
			if !s.take(',') {
				return info, false
			}
			s.space()
		}
		name, ok := s.plain()
		if !ok {
			return info, false
		}
		s.space()
		if !s.take(':') {
			return info, false
		}
		s.space()
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
			if !lower(name) || !s.skip() {
				return info, false
			}
			continue
		}
		if seen&which != 0 {
			return info, false
		}
		seen |= which
		switch {
		case s.word("null"):
		case number:
			from := s.at
			if !s.number() {
				return info, false
			}
			*text = field(from, s.at)
		default:
			from := s.at
			if _, ok := s.plain(); !ok {
				return info, false
			}
			*text = field(from+1, s.at-1)
		}
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

type scanner struct {
	text []byte
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.at >= len(s.text) {
		return false
	}
	s.at++
	return true
}

func (s *scanner) word(w string) bool {
	if len(s.text)-s.at < len(w) || string(s.text[s.at:s.at+len(w)]) != w {
		return false
	}
	s.at += len(w)
	return true
}

// plain reads a string without escapes.
func (s *scanner) plain() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	i := s.at
	// Eight bytes at a time, as package protocol does it, up to those that hold a
	// quote, a backslash or a control character.
	for ; i+8 <= len(s.text); i += 8 {
		const ones, highs = 0x0101010101010101, 0x8080808080808080
		w := binary.LittleEndian.Uint64(s.text[i:])
		quote, slash := w^ones*'"', w^ones*'\\'
		if ((quote-ones)&^quote|(slash-ones)&^slash|(w-ones*' ')&^w)&highs != 0 {
			break
		}
	}
	for ; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			token := s.text[s.at:i]
			s.at = i + 1
			return token, true
		case c == '\\' || c < ' ':
			return nil, false
		}
	}
	return nil, false
}

// number passes over a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
// What follows it is the caller's to judge.
func (s *scanner) number() bool {
	s.take('-')
	if !s.take('0') && !s.digits() {
		return false
	}
	if s.take('.') && !s.digits() {
		return false
	}
	if s.take('e') || s.take('E') {
		if !s.take('+') {
			s.take('-')
		}
		return s.digits()
	}
	return true
}

func (s *scanner) digits() bool {
	from := s.at
	for s.at < len(s.text) && s.text[s.at]-'0' <= 9 {
		s.at++
	}
	return s.at > from
}

// skip passes over a value of any kind.
func (s *scanner) skip() bool {
	switch c := s.peek(); {
	case c == '{' || c == '[':
		return s.nested()
	case c == '"':
		begin := s.at
		if _, ok := s.plain(); ok {
			return true
		}
		s.at = begin
		return s.str() && json.Valid(s.text[begin:s.at])
	case c == 't':
		return s.word("true")
	case c == 'f':
		return s.word("false")
	case c == 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

// str passes over a string, whatever it holds.
func (s *scanner) str() bool {
	for i := s.at + 1; i < len(s.text); i++ {
		switch s.text[i] {
		case '\\':
			i++
		case '"':
			s.at = i + 1
			return true
		}
	}
	return false
}

// nested finds the end of an object or array; whether it is one, encoding/json
// says.
func (s *scanner) nested() bool {
	begin, depth := s.at, 0
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '"':
			if !s.str() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.at++
		if depth == 0 {
			return json.Valid(s.text[begin:s.at])
		}
	}
	return false
}
