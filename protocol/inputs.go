package protocol

import "slices"

// Bounds of what a worker may declare as inputs (P56).
const (
	MaxInputPatterns = 256
	MaxInputNames    = 1000 // of all patterns together
)

// BoundKey is the key of what a workflow has bound to a task's parameters: an
// object of values (P57).
func BoundKey(taskID string) string { return taskID + ".__bound__" }

// InputsKey is the key of the inputs that a workflow declares for a task: an
// object of names, each with that of its source (P57).
func InputsKey(taskID string) string { return taskID + ".__inputs__" }

// Input is one input of a task, found under its name.
type Input struct {
	Name string
	// Text is the value as it was written: JSON, or what Python makes of it.
	Text []byte
}

// appendInputs writes the member inputs, with a comma before it; nothing where
// there are none. Bytes that are no text become U+FFFD: the reader of the inputs has
// to keep such bytes out.
func appendInputs(dst []byte, inputs []Input) []byte {
	if len(inputs) == 0 {
		return dst
	}
	dst = append(dst, `,"inputs":{`...)
	for i, in := range inputs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, in.Name), ':', '{')
		var err error
		if dst, err = AppendValue(dst, in.Text); err != nil {
			dst = appendString(append(dst, `"valueText":`...), string(in.Text))
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}

// inputs reads the member inputs of a task/run, in the order in which it has
// them; null is none.
func (s *scan) inputs(depth int) []Input {
	if s.Peek() == 'n' {
		s.Literal("null")
		return nil
	}
	if !s.Expect('{', "the inputs are not an object") {
		return nil
	}
	var all []Input
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		in := Input{Name: string(name), Text: s.input(depth + 1)}
		if s.Problem == "" && slices.ContainsFunc(all, func(other Input) bool { return other.Name == in.Name }) {
			s.Fail("an input occurs twice: " + in.Name)
		}
		if s.Problem != "" {
			return nil
		}
		all = append(all, in)
	}
	return all
}

// input reads an object with either value or valueText.
func (s *scan) input(depth int) (text []byte) {
	if !s.Expect('{', "an input is not an object") {
		return nil
	}
	var seen members
	for name, more := s.Member(true); more; name, more = s.Member(false) {
		start := s.Pos
		switch string(name) {
		case "value":
			seen.add(s, 0)
			if s.value(depth) {
				text = s.Data[start:s.Pos]
			}
		case "valueText":
			seen.add(s, 0) // never beside a value
			text = s.required("valueText")
		default:
			s.value(depth)
		}
		if s.Problem != "" {
			return nil
		}
	}
	if s.Problem == "" && len(text) == 0 {
		s.Fail("an input without a value")
	}
	return text
}
