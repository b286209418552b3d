package protocol

import (
	"errors"
	"slices"
)

// Members splits the text of an object into its members, in its order, each
// value as it was written. Values may be what Python's json.dumps makes of NaN
// and Infinity: all that is looked at is where they end. Of a name that occurs
// twice, the last one counts, as for Python. Texts alias text.
func Members(text []byte) ([]Input, error) {
	s := scan{b: text}
	s.space()
	s.expect('{', "not an object")
	var all []Input
	if s.msg == "" {
		for name, more := s.member(true); more; name, more = s.member(false) {
			in := Input{Name: string(name), Text: s.written()}
			if s.msg != "" {
				break
			}
			if i := slices.IndexFunc(all, func(other Input) bool { return other.Name == in.Name }); i >= 0 {
				all = slices.Delete(all, i, i+1)
			}
			all = append(all, in)
		}
	}
	if s.msg == "" {
		s.end()
	}
	if s.msg != "" {
		return nil, errors.New(s.msg)
	}
	return all, nil
}

// written passes over one value, whatever its scalars look like.
func (s *scan) written() []byte {
	start, depth := s.i, 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case '"':
			if _, _, ok := s.str(); !ok {
				return nil
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return s.someOf(start)
			}
			if c != ',' {
				depth--
			}
		}
		s.i++
	}
	s.fail("the text ends within a value")
	return nil
}

// someOf is what stands from start to here, without the space at its end.
func (s *scan) someOf(start int) []byte {
	end := s.i
	for end > start && (s.b[end-1] == ' ' || s.b[end-1] == '\t' || s.b[end-1] == '\n' || s.b[end-1] == '\r') {
		end--
	}
	if end == start {
		s.fail("expected a value")
	}
	return s.b[start:end]
}
