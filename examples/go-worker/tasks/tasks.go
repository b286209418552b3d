// Package tasks is what the example worker does: CPU-heavy work, each kind with
// parameters from the record, a value that says what was found, and a prompt end
// when it is cancelled.
package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/graflow/graflow-sidecar/protocol"
)

// ErrUnknown is wrapped by Handler's error for a record that no kind of task here
// answers to.
var ErrUnknown = errors.New("unknown task")

// kind is one kind of task. params is the record's member of that name, nil if
// there is none.
type kind func(ctx context.Context, t *protocol.Task, params json.RawMessage) (any, error)

var kinds = map[string]kind{
	"pi":     withParams(pi),
	"primes": withParams(primes),
	"words":  withParams(words),
}

// Handler does the task that the record asks for: the kind is params.task if the
// record has that, else what its task_id begins with, up to the first character
// that is no letter (primes_17 is of the kind primes). Parameters that do not fit
// the kind, and a kind that is not there, are failed tasks. It may run any number
// of times at once.
func Handler(ctx context.Context, t *protocol.Task) (any, error) {
	var record struct {
		TaskID string          `json:"task_id"`
		Params json.RawMessage `json:"params"`
	}
	if err := t.Decode(&record); err != nil {
		return nil, err
	}
	name := kindOf(record.TaskID)
	if record.Params != nil {
		var choice struct{ Task string }
		// Parameters of another shape are for the kind to refuse.
		if json.Unmarshal(record.Params, &choice) == nil && choice.Task != "" {
			name = choice.Task
		}
	}
	do, ok := kinds[name]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
		return nil, fmt.Errorf("%w %q (task_id %q): this worker does %s", ErrUnknown, name, record.TaskID, known)
	}
	return do(ctx, t, record.Params)
}

// kindOf is what a task id begins with.
func kindOf(taskID string) string {
	for i, c := range taskID {
		if c < 'a' || c > 'z' {
			return taskID[:i]
		}
	}
	return taskID
}

// withParams makes a kind of a function with parameters of its own type.
func withParams[P any](do func(context.Context, *protocol.Task, P) (any, error)) kind {
	return func(ctx context.Context, t *protocol.Task, raw json.RawMessage) (any, error) {
		var p P
		if raw != nil {
			if err := json.Unmarshal(raw, &p); err != nil {
				return nil, fmt.Errorf("params: %w", err)
			}
		}
		return do(ctx, t, p)
	}
}
