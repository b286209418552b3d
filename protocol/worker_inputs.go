package protocol

import (
	"bytes"
	"fmt"
)

// Input reads one of the inputs that came with the task, see WithInputs, into v,
// as Entry.Decode does, and reports whether it came. What an input x is, Graflow
// would give to a parameter of that name: the result of the task x, else the
// value of the channel's key x.
func (t *Task) Input(name string, v any) (found bool, err error) {
	for _, in := range t.inputs {
		if in.Name != name {
			continue
		}
		if err := decodeText(in.Text, v); err != nil {
			return true, fmt.Errorf("input %s: %w", name, err)
		}
		return true, nil
	}
	return false, nil
}

// Inputs are all inputs that came with the task. They belong to the handler.
func (t *Task) Inputs() []Input { return t.inputs }

// cloned keeps inputs beyond the line that they came in.
func cloned(inputs []Input) []Input {
	for i := range inputs {
		inputs[i].Text = bytes.Clone(inputs[i].Text)
	}
	return inputs
}
