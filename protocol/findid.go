package protocol

// FindID finds the id in the first bytes of a message that is cut or not valid
// (P11), so that a fault fails one task and not the whole child. It is
// forgiving about everything but structure (NaN as a value, say, is passed
// over): a wrong id would fail a neighbour. Only a number or a string that
// ends inside prefix counts, at the top level of the object; two different ids
// are none. The result aliases prefix.
func FindID(prefix []byte) (id []byte, ok bool) {
	s := loose{scan{b: prefix}}
	s.space()
	if s.peek() != '{' {
		return nil, false
	}
	s.i++
	for {
		s.space()
		if s.peek() != '"' {
			return id, id != nil
		}
		content, escaped, ok := s.quoted()
		if !ok {
			return id, id != nil
		}
		s.space()
		if s.peek() != ':' {
			return id, id != nil
		}
		s.i++
		s.space()
		value, ok := s.skip()
		if !ok {
			return id, id != nil
		}
		if escaped {
			if name, ok := (&scan{b: prefixQuoted(content)}).text(); ok {
				content = name
			}
		}
		if string(content) == "id" {
			if !isID(value) || id != nil && string(id) != string(value) {
				return nil, false
			}
			id = value
		}
		s.space()
		if s.peek() != ',' {
			return id, id != nil
		}
		s.i++
	}
}

// prefixQuoted puts quotes around the content of a string again.
func prefixQuoted(content []byte) []byte {
	return append(append([]byte{'"'}, content...), '"')
}

// isID reports whether a token is a valid id that names a request: not null.
func isID(token []byte) bool {
	s := scan{b: token}
	id := s.id()
	return s.msg == "" && len(id) == len(token) && string(id) != "null"
}

// loose is a scan that keeps to structure only.
type loose struct{ scan }

// quoted skips a string, whatever stands in it.
func (s *loose) quoted() (content []byte, escaped, ok bool) {
	s.i++
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch s.b[s.i] {
		case '"':
			s.i++
			return s.b[start : s.i-1], escaped, true
		case '\\':
			escaped = true
			s.i++
		}
	}
	return nil, false, false
}

// skip passes one value, and returns it if its end is there.
func (s *loose) skip() (value []byte, ok bool) {
	start, depth := s.i, 0
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case '"':
			if _, _, ok := s.quoted(); !ok {
				return nil, false
			}
			if depth == 0 {
				return s.b[start:s.i], true
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return s.b[start:s.i], s.i > start
			}
			if c != ',' {
				depth--
			}
			if depth == 0 {
				s.i++
				return s.b[start:s.i], true
			}
		case ' ', '\t', '\r', '\n':
			if depth == 0 {
				return s.b[start:s.i], true
			}
		}
		s.i++
	}
	return nil, false
}
