package requests

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Inputs reads the inputs of a task that is about to start: those that its worker
// declared, and those that the workflow defines for it, which remote_task of the Python
// package stores in the channel. A name is resolved like a keyword argument in Graflow:
// to the value bound to it, otherwise to the result of the task with that name,
// otherwise to the key with that name (P46, P57).
//
// Everything is read in one round trip to Redis, with a second one if the workflow
// defines inputs that the worker has not declared.
func (a *Server) Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error) {
	if t.Info.SessionID == "" {
		return nil, nil
	}
	ch, err := a.channel(t)
	if err != nil {
		if len(names) == 0 {
			return nil, nil // a Cluster has no channels, and no input was declared
		}
		return nil, err
	}
	boundKey, inputsKey := protocol.BoundKey(t.Info.TaskID), protocol.InputsKey(t.Info.TaskID)
	keys := append(make([]string, 0, 2*len(names)+2), boundKey, inputsKey)
	for _, name := range names {
		keys = append(keys, protocol.ResultKey(name), name)
	}
	values, err := a.read(ctx, ch, keys)
	if err != nil {
		return nil, err
	}
	in := inputs{given: map[string]bool{}}
	if in.found, err = objectAt(boundKey, values[0]); err != nil {
		return nil, err
	}
	for _, b := range in.found {
		in.given[b.Name] = true
	}
	sources, err := sourcesAt(inputsKey, values[1])
	if err != nil {
		return nil, err
	}
	var later []source
	for _, s := range sources {
		switch {
		case in.given[s.name]:
		case s.name == s.from && slices.Contains(names, s.name):
		default:
			in.given[s.name] = true // the workflow's definition takes precedence over the worker's
			later = append(later, s)
		}
	}
	for i, name := range names {
		if err := in.resolve(name, keys[2*i+2:], values[2*i+2:]); err != nil {
			return nil, err
		}
	}
	if len(later) == 0 {
		return in.found, nil
	}
	keys = keys[:0]
	for _, s := range later {
		keys = append(keys, protocol.ResultKey(s.from), s.from)
	}
	if values, err = a.read(ctx, ch, keys); err != nil {
		return nil, err
	}
	for i, s := range later {
		delete(in.given, s.name)
		if err := in.resolve(s.name, keys[2*i:], values[2*i:]); err != nil {
			return nil, err
		}
	}
	return in.found, nil
}

// inputs are the inputs of one task while they are being resolved.
type inputs struct {
	found []protocol.Input
	given map[string]bool // names that are resolved
}

// resolve resolves one input to the first of its two keys that exists.
func (in *inputs) resolve(name string, keys []string, values []redis.Value) error {
	if in.given[name] {
		return nil
	}
	at := 0
	if !values[0].Found {
		at = 1
	}
	switch v := values[at]; {
	case v.WrongType:
		return workerError(keys[at], redis.ErrType)
	case v.Found && !utf8.Valid(v.Text):
		return workerError(keys[at], protocol.ErrNotText)
	case v.Found:
		in.found = append(in.found, protocol.Input{Name: name, Text: v.Text})
	}
	return nil
}

// objectAt returns the members of the JSON object at a key; none if the key does not
// exist.
func objectAt(key string, v redis.Value) ([]protocol.Input, error) {
	switch {
	case v.WrongType:
		return nil, workerError(key, redis.ErrType)
	case !v.Found:
		return nil, nil
	case !utf8.Valid(v.Text):
		return nil, workerError(key, protocol.ErrNotText)
	}
	members, err := protocol.Members(v.Text)
	if err != nil {
		return nil, fmt.Errorf("%s holds no object of values (%w): %.100q", key, err, v.Text)
	}
	return members, nil
}

// source says that an input is the value of another name.
type source struct{ name, from string }

// sourcesAt returns the inputs that the workflow defines, each with its source.
func sourcesAt(key string, v redis.Value) ([]source, error) {
	members, err := objectAt(key, v)
	if err != nil {
		return nil, err
	}
	if len(members) > protocol.MaxInputNames {
		return nil, fmt.Errorf("%s has %d inputs; %d are the most", key, len(members), protocol.MaxInputNames)
	}
	sources := make([]source, len(members))
	for i, m := range members {
		sources[i].name = m.Name
		if err := json.Unmarshal(m.Text, &sources[i].from); err != nil {
			return nil, fmt.Errorf("%s: the source of the input %.100q is no name: %.100q", key, m.Name, m.Text)
		}
	}
	return sources, nil
}
