package protocol

import "encoding/binary"

// str skips a string. content is what stands between its quotes, as written;
// escaped says whether that holds a backslash.
func (s *scan) str() (content []byte, escaped, ok bool) {
	s.i++ // the opening quote, which the caller has seen
	start := s.i
	for {
		s.i = plain(s.b, s.i)
		switch c := s.peek(); {
		case c == '"':
			content = s.b[start:s.i]
			s.i++
			return content, escaped, true
		case s.i == len(s.b):
			return nil, false, s.fail("a string without its end")
		case c == '\\':
			escaped = true
			if !s.escape() {
				return nil, false, false
			}
		default:
			return nil, false, s.fail("a control character in a string")
		}
	}
}

// escape skips one backslash and what belongs to it.
func (s *scan) escape() bool {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		s.i++
		for range 4 {
			if _, ok := hex(s.peek()); !ok {
				return s.fail("expected four hexadecimal digits after \\u")
			}
			s.i++
		}
		return true
	default:
		return s.fail("unknown escape in a string")
	}
}

// text reads a string and decodes it: an alias of the input where nothing is
// escaped, else a copy.
func (s *scan) text() (text []byte, ok bool) {
	content, escaped, ok := s.str()
	if !ok || !escaped {
		return content, ok
	}
	return unescape(content), true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain gives the index of the first byte at or after i that a string cannot
// just contain (quote, backslash, control character), or len(b). It looks at
// eight bytes at a time: long strings are most of what a large message is.
func plain(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote := w ^ ones*'"'
		slash := w ^ ones*'\\'
		// x-ones has the high bit set in the lowest byte that is zero; the
		// test may also hit bytes above a true hit, never without one.
		if ((quote-ones)&^quote|(slash-ones)&^slash|(w-ones*0x20)&^w)&highs != 0 {
			break
		}
	}
	for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

func hex(c byte) (rune, bool) {
	switch {
	case c >= '0' && c <= '9':
		return rune(c - '0'), true
	case c >= 'a' && c <= 'f':
		return rune(c-'a') + 10, true
	case c >= 'A' && c <= 'F':
		return rune(c-'A') + 10, true
	default:
		return 0, false
	}
}
