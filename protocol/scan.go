package protocol

import "unicode/utf8"

// MaxDepth is how deep the arrays and objects of one message may nest, the
// message itself included (P12). Deeper is an error, never a stack overflow.
const MaxDepth = 1000

// scan walks over JSON text once, strictly, without copying. It has failed as
// soon as msg is set; i then says where. Whether the text is UTF-8 is for the
// caller to check first: one pass of utf8.Valid is faster than a look at every
// byte here.
type scan struct {
	b   []byte
	i   int
	msg string
	// big is set when an integer beyond maxSafeInteger was passed.
	big bool
}

func (s *scan) fail(msg string) bool {
	if s.msg == "" {
		s.msg = msg
	}
	return false
}

// space skips what JSON calls whitespace.
func (s *scan) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte, 0 at the end. A NUL byte is valid nowhere between
// tokens, so it needs no telling apart.
func (s *scan) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scan) expect(c byte, msg string) bool {
	if s.peek() != c {
		return s.fail(msg)
	}
	s.i++
	return true
}

// end reports whether nothing but space is left.
func (s *scan) end() bool {
	s.space()
	if s.i != len(s.b) {
		return s.fail("more bytes after the end of the value")
	}
	return true
}

// member moves to the value of the next member of an object whose '{' (first)
// or last value has just been read, and returns its name, decoded. more is
// false after the last member, and after a failure.
func (s *scan) member(first bool) (name []byte, more bool) {
	s.space()
	if s.peek() == '}' {
		s.i++
		return nil, false
	}
	if !first {
		if !s.expect(',', "expected , or } in an object") {
			return nil, false
		}
		s.space()
	}
	if s.peek() != '"' {
		return nil, s.fail("expected the name of a member")
	}
	name, ok := s.text()
	if !ok {
		return nil, false
	}
	s.space()
	if !s.expect(':', "expected : after the name of a member") {
		return nil, false
	}
	s.space()
	return name, true
}

// value skips one value that stands in depth containers.
func (s *scan) value(depth int) bool {
	switch c := s.peek(); {
	case c == '"':
		_, _, ok := s.str()
		return ok
	case c == '{':
		if depth >= MaxDepth {
			return s.fail("nested too deep")
		}
		s.i++
		return s.object(depth + 1)
	case c == '[':
		if depth >= MaxDepth {
			return s.fail("nested too deep")
		}
		s.i++
		return s.array(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	default:
		return s.fail("expected a value")
	}
}

// object skips the rest of an object whose '{' has been read.
func (s *scan) object(depth int) bool {
	for first := true; ; first = false {
		s.space()
		if s.peek() == '}' {
			s.i++
			return true
		}
		if !first {
			if !s.expect(',', "expected , or } in an object") {
				return false
			}
			s.space()
		}
		if s.peek() != '"' {
			return s.fail("expected the name of a member")
		}
		if _, _, ok := s.str(); !ok {
			return false
		}
		s.space()
		if !s.expect(':', "expected : after the name of a member") {
			return false
		}
		s.space()
		if !s.value(depth) {
			return false
		}
	}
}

// array skips the rest of an array whose '[' has been read.
func (s *scan) array(depth int) bool {
	s.space()
	if s.peek() == ']' {
		s.i++
		return true
	}
	for {
		if !s.value(depth) {
			return false
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case ']':
			s.i++
			return true
		default:
			return s.fail("expected , or ] in an array")
		}
	}
}

func (s *scan) literal(word string) bool {
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return s.fail("expected a value")
	}
	s.i += len(word)
	return true
}

// number skips a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (s *scan) number() bool {
	if s.peek() == '-' {
		s.i++
	}
	start := s.i
	switch c := s.peek(); {
	case c == '0':
		s.i++
	case c >= '1' && c <= '9':
		s.digits()
	default:
		return s.fail("expected a digit")
	}
	if s.i-start >= len(maxSafeInteger) && beyondSafe(s.b[start:s.i]) && !s.fraction() {
		s.big = true
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.fail("expected a digit")
		}
	}
	return true
}

// maxSafeInteger is 2^53: every integer up to it survives a reader that keeps
// numbers as 64-bit floats, as many do (P25).
const maxSafeInteger = "9007199254740992"

// beyondSafe compares digits, of which there are at least as many as
// maxSafeInteger has and none is a leading zero.
func beyondSafe(digits []byte) bool {
	return len(digits) > len(maxSafeInteger) || string(digits) > maxSafeInteger
}

// fraction reports whether the number goes on after its integer part.
func (s *scan) fraction() bool {
	c := s.peek()
	return c == '.' || c == 'e' || c == 'E'
}

func (s *scan) digits() bool {
	start := s.i
	for s.i < len(s.b) && s.b[s.i]-'0' <= 9 {
		s.i++
	}
	return s.i > start
}

// invalidUTF8 gives the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
