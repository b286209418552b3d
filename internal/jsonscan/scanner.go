// Package jsonscan passes over JSON text once, strictly and without copying it. It
// serves the two hot paths that encoding/json would dominate: the head of a record and
// the envelope of a message.
package jsonscan

import "encoding/binary"

// Scanner reads the JSON text Data from Pos on. It has failed as soon as Problem is
// set; Pos then says where, and what the methods return means nothing. Data must be
// UTF-8, which the caller checks: one pass of utf8.Valid is faster than a look at every
// byte here.
type Scanner struct {
	Data    []byte
	Pos     int
	Problem string
	// Loose makes strings hold anything up to their closing quote: unknown escapes and
	// control characters too.
	Loose bool
	// LargeInteger is set when an integer beyond 2^53 has been passed.
	LargeInteger bool
}

// Fail sets the problem, unless there is one already, and returns false.
func (s *Scanner) Fail(problem string) bool {
	if s.Problem == "" {
		s.Problem = problem
	}
	return false
}

// Space skips what JSON calls whitespace.
func (s *Scanner) Space() {
	for s.Pos < len(s.Data) {
		switch s.Data[s.Pos] {
		case ' ', '\t', '\n', '\r':
			s.Pos++
		default:
			return
		}
	}
}

// Peek returns the next byte, 0 at the end. A NUL byte is valid nowhere between tokens,
// so the two need no telling apart.
func (s *Scanner) Peek() byte {
	if s.Pos < len(s.Data) {
		return s.Data[s.Pos]
	}
	return 0
}

// Expect takes the byte c, or fails.
func (s *Scanner) Expect(c byte, problem string) bool {
	if s.Peek() != c {
		return s.Fail(problem)
	}
	s.Pos++
	return true
}

// End fails unless nothing but space is left.
func (s *Scanner) End() bool {
	s.Space()
	if s.Pos != len(s.Data) {
		return s.Fail("more bytes after the end of the value")
	}
	return true
}

// Member moves to the value of the next member of an object whose '{' (first) or last
// value has just been read, and returns its name, decoded. more is false after the last
// member, and after a failure.
func (s *Scanner) Member(first bool) (name []byte, more bool) {
	s.Space()
	if s.Peek() == '}' {
		s.Pos++
		return nil, false
	}
	if !first {
		if !s.Expect(',', "expected , or } in an object") {
			return nil, false
		}
		s.Space()
	}
	if s.Peek() != '"' {
		return nil, s.Fail("expected the name of a member")
	}
	name, ok := s.Text()
	if !ok {
		return nil, false
	}
	s.Space()
	if !s.Expect(':', "expected : after the name of a member") {
		return nil, false
	}
	s.Space()
	return name, true
}

// Value passes over one value, whose arrays and objects nest at most depth deep.
func (s *Scanner) Value(depth int) bool {
	switch c := s.Peek(); {
	case c == '"':
		_, _, ok := s.Quoted()
		return ok
	case c == '{':
		if depth <= 0 {
			return s.Fail("nested too deep")
		}
		s.Pos++
		return s.object(depth - 1)
	case c == '[':
		if depth <= 0 {
			return s.Fail("nested too deep")
		}
		s.Pos++
		return s.array(depth - 1)
	case c == '-' || c >= '0' && c <= '9':
		return s.Number()
	case c == 't':
		return s.Literal("true")
	case c == 'f':
		return s.Literal("false")
	case c == 'n':
		return s.Literal("null")
	default:
		return s.Fail("expected a value")
	}
}

// object passes over the rest of an object whose '{' has been read.
func (s *Scanner) object(depth int) bool {
	for first := true; ; first = false {
		s.Space()
		if s.Peek() == '}' {
			s.Pos++
			return true
		}
		if !first {
			if !s.Expect(',', "expected , or } in an object") {
				return false
			}
			s.Space()
		}
		if s.Peek() != '"' {
			return s.Fail("expected the name of a member")
		}
		if _, _, ok := s.Quoted(); !ok {
			return false
		}
		s.Space()
		if !s.Expect(':', "expected : after the name of a member") {
			return false
		}
		s.Space()
		if !s.Value(depth) {
			return false
		}
	}
}

// array passes over the rest of an array whose '[' has been read.
func (s *Scanner) array(depth int) bool {
	s.Space()
	if s.Peek() == ']' {
		s.Pos++
		return true
	}
	for {
		if !s.Value(depth) {
			return false
		}
		s.Space()
		switch s.Peek() {
		case ',':
			s.Pos++
			s.Space()
		case ']':
			s.Pos++
			return true
		default:
			return s.Fail("expected , or ] in an array")
		}
	}
}

// Skip passes over one value by its structure alone: numbers and words may be anything
// (NaN), closing brackets need not match. It fails if the end of the value is not there;
// a number or word ends only where something follows, since there could be more of it.
func (s *Scanner) Skip() bool {
	start, depth := s.Pos, 0
	for s.Pos < len(s.Data) {
		switch c := s.Data[s.Pos]; c {
		case '"':
			if _, _, ok := s.Quoted(); !ok {
				return false
			}
			if depth == 0 {
				return true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return s.Pos > start || s.Fail("expected a value")
			}
			if c != ',' {
				depth--
			}
			if depth == 0 {
				s.Pos++
				return true
			}
		case ' ', '\t', '\r', '\n':
			if depth == 0 {
				return true
			}
		}
		s.Pos++
	}
	return s.Fail("the text ends within a value")
}

// Literal takes the word, or fails.
func (s *Scanner) Literal(word string) bool {
	if len(s.Data)-s.Pos < len(word) || string(s.Data[s.Pos:s.Pos+len(word)]) != word {
		return s.Fail("expected a value")
	}
	s.Pos += len(word)
	return true
}

// Number passes over a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
// What follows it is the caller's to judge.
func (s *Scanner) Number() bool {
	if s.Peek() == '-' {
		s.Pos++
	}
	start := s.Pos
	switch c := s.Peek(); {
	case c == '0':
		s.Pos++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return s.Fail("expected a digit")
	}
	if s.Pos-start >= len(maxSafeInteger) && beyondSafe(s.Data[start:s.Pos]) && !s.fraction() {
		s.LargeInteger = true
	}
	if s.Peek() == '.' {
		s.Pos++
		if !s.digits() {
			return s.Fail("expected a digit")
		}
	}
	if c := s.Peek(); c == 'e' || c == 'E' {
		s.Pos++
		if c := s.Peek(); c == '+' || c == '-' {
			s.Pos++
		}
		if !s.digits() {
			return s.Fail("expected a digit")
		}
	}
	return true
}

// maxSafeInteger is 2^53: every integer up to it survives a reader that keeps numbers
// as 64-bit floats, as many do.
const maxSafeInteger = "9007199254740992"

// beyondSafe compares digits, of which there are at least as many as maxSafeInteger has
// and none is a leading zero.
func beyondSafe(digits []byte) bool {
	return len(digits) > len(maxSafeInteger) || string(digits) > maxSafeInteger
}

// fraction reports whether the number goes on after its integer part.
func (s *Scanner) fraction() bool {
	c := s.Peek()
	return c == '.' || c == 'e' || c == 'E'
}

func (s *Scanner) digits() bool {
	start := s.Pos
	for s.Pos < len(s.Data) && s.Data[s.Pos]-'0' <= 9 {
		s.Pos++
	}
	return s.Pos > start
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// Quoted passes over a string, whose opening quote the caller has seen. content is what
// stands between its quotes, as written; escaped says whether that holds a backslash.
func (s *Scanner) Quoted() (content []byte, escaped, ok bool) {
	b, i := s.Data, s.Pos+1
	start := i
	for {
		// Eight bytes at a time, up to those that hold a quote, a backslash or a control
		// character: long strings are most of what a large message is.
		for ; i+8 <= len(b); i += 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^ones*'"', w^ones*'\\'
			// x-ones has the high bit set in the lowest byte that is zero; the test may
			// also hit bytes above a true hit, never without one.
			if ((quote-ones)&^quote|(slash-ones)&^slash|(w-ones*' ')&^w)&highs != 0 {
				break
			}
		}
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			i++
		}
		if i < len(b) && b[i] == '"' {
			s.Pos = i + 1
			return b[start:i], escaped, true
		}
		s.Pos = i
		switch {
		case i >= len(b):
			return nil, false, s.Fail("a string without its end")
		case b[i] == '\\':
			escaped = true
			if !s.escape() {
				return nil, false, false
			}
			i = s.Pos
		case s.Loose:
			i++
		default:
			return nil, false, s.Fail("a control character in a string")
		}
	}
}

// escape passes over one backslash and what belongs to it.
func (s *Scanner) escape() bool {
	s.Pos++
	switch s.Peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.Pos++
		return true
	case 'u':
		s.Pos++
		for range 4 {
			if _, ok := hex(s.Peek()); !ok {
				return s.Loose || s.Fail("expected four hexadecimal digits after \\u")
			}
			s.Pos++
		}
		return true
	default:
		if s.Loose && s.Pos < len(s.Data) {
			s.Pos++
			return true
		}
		return s.Fail("unknown escape in a string")
	}
}

// Text reads a string and decodes it: an alias of the input where nothing is escaped,
// else a copy. It must not be called on a loose scanner.
func (s *Scanner) Text() (text []byte, ok bool) {
	content, escaped, ok := s.Quoted()
	if !ok || !escaped {
		return content, ok
	}
	return unescape(content), true
}
