package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Context is what a registered task is given: its context.Context, and its reach.
type Context struct {
	context.Context
	task *Task
}

// Task is the delivery behind it all.
func (c Context) Task() *Task { return c.task }

// Channel is the Graflow channel of the session.
func (c Context) Channel() Channel { return c.task.Channel() }

// Progress tells how far the task is, see Task.Progress.
func (c Context) Progress(fraction float64, message string) { c.task.Progress(fraction, message) }

// Log adds a line to the sidecar's log, see Task.Log.
func (c Context) Log(level slog.Level, message string, fields ...any) {
	c.task.Log(level, message, fields...)
}

// Enqueue adds a record to the queue, see Task.Enqueue.
func (c Context) Enqueue(record any) error { return c.task.Enqueue(c, record) }

// registered is one task function.
type registered struct {
	pattern string
	names   []string // of the inputs
	wants   bool     // any inputs at all, if only what the workflow has for it
	handle  Handler
}

// tasks is every task function of this program.
var tasks struct {
	mu   sync.Mutex
	list []registered
}

// Register adds a function for the tasks whose id fits a pattern, in which a *
// stands for any characters; [Serve] with no handler runs them. Of several
// patterns that fit, the one with the most characters besides * counts.
//
// In says what the function wants. If it is a struct, each of its exported
// fields is an input, under the name of its json tag or, without one, its own
// name with a small first letter: the result of the task of that name, else the
// value of that key of the channel, as Graflow resolves keyword arguments; what
// the workflow has bound to that name (P57) comes before both, and a member of
// that name in the record's "params" object before all. An input that is found
// nowhere fails the task, unless its field is a pointer or has the option
// omitempty or omitzero. Any other In, such as a map, is decoded from an object
// of all that the workflow has for the task and of params; or from params alone,
// of whatever shape, if the workflow has nothing. struct{} wants nothing.
//
// What the function returns is the task's value, as for a [Handler]; struct{} is
// none. Register panics if the pattern is there already: call it from init or
// main.
func Register[In, Out any](pattern string, do func(ctx Context, in In) (Out, error)) {
	typ := reflect.TypeFor[In]()
	fields := fieldsOf(typ)
	wants := typ.Kind() != reflect.Struct || typ.NumField() > 0
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	tasks.mu.Lock()
	defer tasks.mu.Unlock()
	if slices.ContainsFunc(tasks.list, func(r registered) bool { return r.pattern == pattern }) {
		panic(fmt.Sprintf("protocol: the task %q is registered twice", pattern))
	}
	tasks.list = append(tasks.list, registered{pattern, names, wants, func(ctx context.Context, t *Task) (any, error) {
		var in In
		if wants {
			if err := t.arguments(fields, &in); err != nil {
				return nil, err
			}
		}
		out, err := do(Context{ctx, t}, in)
		if _, none := any(out).(struct{}); none {
			return nil, err
		}
		return out, err
	}})
}

// errNoTasks is returned by Serve with neither a handler nor a registered task.
var errNoTasks = errors.New("no handler, and no task is registered: call protocol.Register before Serve")

// registeredTasks is the handler of all registered tasks; it declares their
// inputs.
func registeredTasks(o *options) (Handler, error) {
	tasks.mu.Lock()
	list := slices.Clone(tasks.list)
	tasks.mu.Unlock()
	if len(list) == 0 {
		return nil, errNoTasks
	}
	literal := func(r registered) int { return len(r.pattern) - strings.Count(r.pattern, "*") }
	slices.SortFunc(list, func(a, b registered) int {
		if n := literal(b) - literal(a); n != 0 {
			return n
		}
		return strings.Compare(b.pattern, a.pattern) // "a" before "*a"
	})
	var known []string
	for _, r := range list {
		known = append(known, r.pattern)
		if r.wants {
			WithInputs(r.pattern, r.names...)(o)
		}
	}
	return func(ctx context.Context, t *Task) (any, error) {
		var record struct {
			TaskID string `json:"task_id"`
		}
		if err := t.Decode(&record); err != nil {
			return nil, err
		}
		for _, r := range list {
			if MatchTask(r.pattern, record.TaskID) {
				return r.handle(ctx, t)
			}
		}
		return nil, fmt.Errorf("this worker has no task %q; it has %s", record.TaskID, strings.Join(known, ", "))
	}, nil
}

// field is an input that a struct has.
type field struct {
	name     string
	optional bool
}

func fieldsOf(t reflect.Type) (fields []field) {
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	for _, f := range reflect.VisibleFields(t) {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Anonymous && name == "" {
			continue
		}
		if name == "" {
			name = strings.ToLower(f.Name[:1]) + f.Name[1:]
		}
		fields = append(fields, field{
			name:     name,
			optional: f.Type.Kind() == reflect.Pointer || strings.Contains(option, "omitempty") || strings.Contains(option, "omitzero"),
		})
	}
	return fields
}

// arguments decodes what a registered task wants into in.
func (t *Task) arguments(fields []field, in any) error {
	var record struct{ Params json.RawMessage }
	if err := t.Decode(&record); err != nil {
		return err
	}
	if fields == nil && len(t.inputs) == 0 {
		if record.Params == nil {
			return nil
		}
		if err := json.Unmarshal(record.Params, in); err != nil {
			return fmt.Errorf("params: %w", err)
		}
		return nil
	}
	members := map[string]json.RawMessage{}
	for _, i := range t.inputs {
		if !json.Valid(i.Text) {
			return fmt.Errorf("input %s is not JSON that Go reads: %.100q (Task.Input takes it as json.RawMessage)", i.Name, i.Text)
		}
		members[i.Name] = i.Text
	}
	// Params of another shape are no parameters: a record of another producer.
	_ = json.Unmarshal(record.Params, &members)
	for _, f := range fields {
		if members[f.name] == nil && !f.optional {
			return fmt.Errorf("input %s is missing: the channel has neither %s nor %[1]s, and the record no such member of params", f.name, ResultKey(f.name))
		}
	}
	text, err := json.Marshal(members)
	if err == nil {
		err = json.Unmarshal(text, in)
	}
	if err != nil {
		return fmt.Errorf("inputs: %w", err)
	}
	return nil
}
