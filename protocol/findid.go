package protocol

import "github.com/graflow/graflow-sidecar/internal/jsonscan"

// FindID finds the id in the first bytes of a message that is cut or not valid
// (P11), so that a fault fails one task and not the whole child. It is
// forgiving about everything but structure (NaN as a value, say, is passed
// over): a wrong id would fail a neighbour. Only a number or a string that
// ends inside prefix counts, at the top level of the object; two different ids
// are none. The result aliases prefix.
func FindID(prefix []byte) (id []byte, ok bool) {
	s := jsonscan.Scanner{Data: prefix, Loose: true}
	s.Space()
	if s.Peek() != '{' {
		return nil, false
	}
	for {
		s.Pos++ // the brace, or a comma
		name, ok := looseName(&s)
		if !ok {
			return id, id != nil
		}
		start := s.Pos
		if !s.Skip() {
			return id, id != nil
		}
		if string(name) == "id" {
			value := prefix[start:s.Pos]
			if !isID(value) || id != nil && string(id) != string(value) {
				return nil, false
			}
			id = value
		}
		s.Space()
		if s.Peek() != ',' {
			return id, id != nil
		}
	}
}

// looseName reads the name of a member and moves to its value. A name with
// escapes that do not exist is returned as it is written.
func looseName(s *jsonscan.Scanner) (name []byte, ok bool) {
	s.Space()
	if s.Peek() != '"' {
		return nil, false
	}
	start := s.Pos
	name, escaped, ok := s.Quoted()
	if !ok {
		return nil, false
	}
	if escaped {
		strict := jsonscan.Scanner{Data: s.Data[start:s.Pos]}
		if text, ok := strict.Text(); ok {
			name = text
		}
	}
	s.Space()
	if s.Peek() != ':' {
		return nil, false
	}
	s.Pos++
	s.Space()
	return name, true
}

// isID reports whether a token is a valid id that names a request: not null.
func isID(token []byte) bool {
	s := newScan(token)
	id := s.id()
	return s.Problem == "" && len(id) == len(token) && string(id) != "null"
}
