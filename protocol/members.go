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
	s := newScan(text)
	s.Space()
	s.Expect('{', "not an object")
	var all []Input
	if s.Problem == "" {
		for name, more := s.Member(true); more; name, more = s.Member(false) {
			in := Input{Name: string(name), Text: s.written()}
			if s.Problem != "" {
				break
			}
			if i := slices.IndexFunc(all, func(other Input) bool { return other.Name == in.Name }); i >= 0 {
				all = slices.Delete(all, i, i+1)
			}
			all = append(all, in)
		}
	}
	if s.Problem == "" {
		s.End()
	}
	if s.Problem != "" {
		return nil, errors.New(s.Problem)
	}
	return all, nil
}

// written passes over what stands before the next comma or the end of the object,
// whatever its scalars look like.
func (s *scan) written() []byte {
	for start := s.Pos; s.Skip(); {
		end := s.Pos
		s.Space()
		switch s.Peek() {
		case '}', ']', ',':
			return s.Data[start:end]
		}
	}
	return nil
}
