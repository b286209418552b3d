package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kballard/go-shellquote"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
)

// What may stand in place of a command line, and before one.
const (
	graflowWord = "graflow"
	execPrefix  = "exec:"
)

// kinds reads the several kinds of worker, if there are any. What else they are
// told is filled in by completeKinds.
func (vs *variables) kinds(in *interpreter, s *Settings) {
	o := &vs.own
	o.Workers.accepts = "PATTERN=COMMAND LINE; several with the flag again, in the variable one a line or as a JSON list"
	o.WorkerSlots.accepts = fmt.Sprintf("PATTERN=N, N from 1 to %d; several with the flag again, in the variable one a line", maxSlots)
	slots := in.kindSlots(&o.WorkerSlots)
	if !o.Workers.given() {
		if o.WorkerSlots.given() {
			in.complain(&o.WorkerSlots, "%s needs --worker (SIDECAR_WORKERS): it is about one of several kinds of worker", o.WorkerSlots.name())
		}
		return
	}
	bad := func(err error) { in.complain(&o.Workers, "%s: %w", o.Workers.name(), err) }
	var patterns []string
	for _, k := range parseKinds(&o.Workers, bad) {
		patterns = append(patterns, k.Pattern)
		if n, ok := slots[k.Pattern]; ok {
			k.Slots = n
			delete(slots, k.Pattern)
		} else if k.Slots == 0 {
			k.Slots = s.App.Slots
		}
		s.App.Kinds = append(s.App.Kinds, k)
	}
	if _, err := route.ParseAll(patterns); err != nil {
		for _, e := range errs(err) {
			bad(e)
		}
	}
	for pattern := range slots {
		in.complain(&o.WorkerSlots, "%s: no worker has the pattern %q", o.WorkerSlots.name(), pattern)
	}
}

// errs takes joined errors apart: each has a line of its own.
func errs(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

const maxSlots = 4096

// kindSlots reads PATTERN=N of each line.
func (in *interpreter) kindSlots(v *value) map[string]int {
	slots := map[string]int{}
	for _, line := range fields(v.text()) {
		at := max(strings.LastIndexByte(line, '='), 0)
		n, err := strconv.Atoi(strings.TrimPrefix(line[at:], "="))
		if err != nil || at == 0 || n < 1 || n > maxSlots {
			in.complain(v, "%s has %s, and must be PATTERN=N, N from 1 to %d", v.name(), shorten(line), maxSlots)
			continue
		}
		slots[line[:at]] = n
	}
	return slots
}

// fields are the lines that are not empty.
func fields(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// parseKinds reads either form.
func parseKinds(v *value, bad func(error)) (list []Kind) {
	if !v.byFlag() && strings.HasPrefix(v.text(), "[") {
		list, err := parseKindsJSON([]byte(v.text()))
		if err != nil {
			bad(err)
		}
		return list
	}
	for _, line := range fields(v.text()) {
		k, err := parseKind(line)
		if err != nil {
			bad(err)
			continue
		}
		list = append(list, k)
	}
	return list
}

// parseKind reads PATTERN=COMMAND LINE. A = of the pattern stands behind a
// backslash.
func parseKind(line string) (Kind, error) {
	at := 0
	for at < len(line) && line[at] != '=' {
		if line[at] == '\\' {
			at++
		}
		at++
	}
	if at >= len(line) {
		return Kind{}, fmt.Errorf("%s is not PATTERN=COMMAND, as in etl.*=./etl", shorten(line))
	}
	k := Kind{Pattern: strings.TrimSpace(line[:at]), Mode: ModeRPC}
	command, isExec := strings.CutPrefix(strings.TrimSpace(line[at+1:]), execPrefix)
	if isExec {
		k.Mode = ModeExec
	}
	// go-shellquote follows the shell's rules for quotes and backslashes and reports
	// what is not closed. A shell is not used: it would be one more process to kill and
	// to pass signals on, it would hide how the worker ended, and images without a shell
	// have none.
	words, err := shellquote.Split(command)
	switch {
	case err != nil:
		return k, fmt.Errorf("the command line %s: %s", shorten(command), strings.ToLower(err.Error()))
	case len(words) == 0 || words[0] == "":
		return k, fmt.Errorf("the pattern %q has no command", k.Pattern)
	case len(words) == 1 && words[0] == graflowWord && isExec:
		return k, fmt.Errorf("the pattern %q: graflow is the adapter, which speaks the worker protocol: leave %s away", k.Pattern, execPrefix)
	case len(words) == 1 && words[0] == graflowWord:
		k.Worker.Graflow = true
	default:
		k.Worker.Command = words
	}
	return k, nil
}

// parseKindsJSON reads a JSON list, which has room for every argument.
func parseKindsJSON(text []byte) ([]Kind, error) {
	var entries []struct {
		Pattern string   `json:"pattern"`
		Command []string `json:"command"`
		Graflow bool     `json:"graflow"`
		Mode    Mode     `json:"mode"`
		Slots   int      `json:"slots"`
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&entries); err != nil {
		return nil, fmt.Errorf("the JSON list: %w", err)
	}
	if dec.More() {
		return nil, errors.New("there is something behind the JSON list")
	}
	list := make([]Kind, len(entries))
	for i, e := range entries {
		switch {
		case e.Mode == "":
			e.Mode = ModeRPC
		case e.Mode != ModeRPC && e.Mode != ModeExec:
			return nil, fmt.Errorf("the pattern %q has mode %q, and may have rpc or exec", e.Pattern, e.Mode)
		}
		switch {
		case e.Graflow == (len(e.Command) > 0):
			return nil, fmt.Errorf("the pattern %q needs a command or graflow, one of the two", e.Pattern)
		case e.Graflow && e.Mode != ModeRPC:
			return nil, fmt.Errorf("the pattern %q: graflow goes with mode rpc only", e.Pattern)
		case e.Slots < 0 || e.Slots > maxSlots:
			return nil, fmt.Errorf("the pattern %q has %d slots, and may have 1 to %d", e.Pattern, e.Slots, maxSlots)
		}
		list[i] = Kind{
			Pattern: e.Pattern, Mode: e.Mode, Slots: e.Slots,
			Worker: Worker{Command: e.Command, Graflow: e.Graflow},
		}
	}
	return list, nil
}

// kindConflicts finds what does not go with several kinds of worker.
func (vs *variables) kindConflicts(in *interpreter, c *Config) {
	o := &vs.own
	switch {
	case !o.Workers.given():
	case c.Worker.Graflow:
		in.complain(&o.Workers, "%s and --graflow exclude each other: give the adapter a pattern, as in --worker '*=graflow'", o.Workers.name())
	case c.Mode != ModeRPC:
		in.complain(&o.Mode, "%s is %s, and %s says for each kind of worker what it is: --worker 'img.*=exec:./resize'", o.Mode.name(), c.Mode, o.Workers.name())
	}
}

// completeKinds gives each kind what all workers are told.
func (s *Settings) completeKinds(environ, allowed []string) {
	for i := range s.App.Kinds {
		k := &s.App.Kinds[i]
		w := s.App.Worker
		w.Command, w.Graflow = k.Worker.Command, k.Worker.Graflow
		w.Env = ChildEnv(environ, w.Graflow, allowed)
		k.Worker = w
	}
}

// Adapter lists the workers that are the adapter, to be told what runs it.
func (s *Settings) Adapter() []*Worker {
	var list []*Worker
	if s.App.Worker.Graflow {
		list = append(list, &s.App.Worker)
	}
	s.App.Kinds = slices.Clone(s.App.Kinds)
	for i := range s.App.Kinds {
		if w := &s.App.Kinds[i].Worker; w.Graflow {
			list = append(list, w)
		}
	}
	return list
}
