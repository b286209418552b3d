// Package linear is a second judge of a history, beside that of sidecar/test/kit/history. It
// gives the history to porcupine, a checker of linearizability, partitioned by record and by
// group. For each partition porcupine searches an order of the operations that keeps the
// order in time, keeps Redis' own order of its commands, and that an automaton allows. The
// automata are written from docs/guarantees.md and share no rule with the first judge.
//
// An operation has a call and a return. A push whose reply was lost has an open end: it may
// have been applied at any later time, or never. What Redis executed has one point in time,
// widened by what the clocks of a history may differ by.
package linear

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// Judge checks a history and what Redis holds at the end.
type Judge struct {
	Tasks  map[string]*history.Task
	Groups map[string]*history.Group
	// Silent tells whether the end of a task leaves nothing in Redis without a group.
	Silent func(t *history.Task) bool
	// MayRepeat tells whether a task may run again although nothing in the history has
	// ended its worker or its run: it asks for that itself.
	MayRepeat func(t *history.Task) bool
	// Gaps tells that Redis executed commands that the history does not have.
	Gaps bool
	// Skew is how far the clocks of the history's writers may differ. With 0 the order of
	// the events is the order in time.
	Skew time.Duration
	// Steps bounds the search of each partition; 0 is [DefaultSteps].
	Steps int
	// Dir is the folder for pictures of violations.
	Dir string
}

// DefaultSteps bounds the search of one partition. It takes a second or two. A bound by the
// clock would give other results on a busy machine, and none in virtual time.
const DefaultSteps = 1_000_000

// Result is what a Judge found.
type Result struct {
	Records, Groups int // partitions that were checked
	Operations      int // of all partitions
	InPart          int // partitions with a time in which Redis forgot or was not observed
	Violations      []Violation
	Unknown         []string // partitions whose search was given up, and why
}

// Violation is a partition for which there is no order that its automaton allows.
type Violation struct {
	Text    string // which operation has no place, and why
	Picture string // the path of porcupine's picture
}

// String returns the text and the path of the picture.
func (v Violation) String() string { return v.Text + "; picture: " + v.Picture }

// String returns the numbers of a result in one line.
func (r *Result) String() string {
	return fmt.Sprintf("second judge: %d records and %d groups (%d observed in part), %d operations, %d violations, %d unknown",
		r.Records, r.Groups, r.InPart, r.Operations, len(r.Violations), len(r.Unknown))
}

// Add adds the numbers and the findings of another history.
func (r *Result) Add(o *Result) {
	r.Records += o.Records
	r.Groups += o.Groups
	r.Operations += o.Operations
	r.InPart += o.InPart
	r.Violations = append(r.Violations, o.Violations...)
	r.Unknown = append(r.Unknown, o.Unknown...)
}

// Check judges a history. left is what Redis holds at its end.
func (j *Judge) Check(events []history.Event, left history.Final) *Result {
	r := &Result{}
	b := newBuilder(j, events)
	for _, task := range slices.Sorted(maps.Keys(b.records)) {
		r.Records++
		p := b.record(task, left)
		if len(p.deliveries) > mostDeliveries {
			r.Unknown = append(r.Unknown, fmt.Sprintf("%s has %d deliveries, and the automaton bears %d", task, len(p.deliveries), mostDeliveries))
			continue
		}
		check(j, r, "record "+task, p.ops, recordState{forgot: j.Gaps}, p.rules.step)
	}
	for _, group := range slices.Sorted(maps.Keys(b.groups)) {
		r.Groups++
		p := b.group(group, left)
		check(j, r, "group "+group, p.ops, groupState{forgot: j.Gaps, over: p.neverOpened}, p.rules.step)
	}
	return r
}

// check gives one partition to porcupine. step returns the next state, or the reason why the
// automaton does not allow an operation.
func check[S comparable](j *Judge, r *Result, name string, ops []porcupine.Operation, first S, step func(S, *operation) (S, string)) {
	r.Operations += len(ops)
	if j.Gaps || slices.ContainsFunc(ops, func(o porcupine.Operation) bool { return o.Input.(*operation).What == history.Forgot }) {
		r.InPart++
	}
	limit := j.Steps
	if limit == 0 {
		limit = DefaultSteps
	}
	steps := 0
	model := porcupine.Model{
		Init: func() any { return first },
		Step: func(state, input, _ any) (bool, any) {
			if steps++; steps > limit {
				return false, state // ends the search; the result counts as unknown
			}
			next, reason := step(state.(S), input.(*operation))
			return reason == "", next
		},
		DescribeOperation: func(input, _ any) string { return input.(*operation).String() },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	if porcupine.CheckOperations(model, ops) {
		return
	}
	if steps > limit {
		r.Unknown = append(r.Unknown, fmt.Sprintf("%s: %d operations have no result after %d steps", name, len(ops), limit))
		return
	}
	steps = 0
	_, info := porcupine.CheckOperationsVerbose(model, ops, 0)
	steps = 0
	r.Violations = append(r.Violations, Violation{name + ": " + explain(info, ops, first, step), j.draw(model, info, name)})
}

// explain says which operation has no place behind the longest order that the automaton
// allows, and why.
func explain[S comparable](info porcupine.LinearizationInfo, ops []porcupine.Operation, state S, step func(S, *operation) (S, string)) string {
	at := map[*operation]int{}
	for i := range ops {
		at[ops[i].Input.(*operation)] = i
	}
	compare := func(a, b porcupine.Operation) int { return at[a.Input.(*operation)] - at[b.Input.(*operation)] }
	var longest []porcupine.Operation
	for _, partition := range info.PartialLinearizationsOperations() {
		for _, order := range partition { // in no order: of several the first one by time counts
			if len(order) > len(longest) || len(order) == len(longest) && slices.CompareFunc(order, longest, compare) < 0 {
				longest = order
			}
		}
	}
	placed := map[*operation]bool{}
	for _, o := range longest {
		op := o.Input.(*operation)
		placed[op] = true
		state, _ = step(state, op)
	}
	var next *porcupine.Operation
	for i := range ops {
		if o := &ops[i]; !placed[o.Input.(*operation)] && (next == nil || o.Return < next.Return) {
			next = o
		}
	}
	if next == nil {
		return "no order is allowed" // not reached: a complete order is no violation
	}
	op := next.Input.(*operation)
	_, reason := step(state, op)
	return fmt.Sprintf("%s (%s, behind %d of %d operations)", reason, op, len(longest), len(ops))
}

// draw writes porcupine's picture of a partition and returns its path.
func (j *Judge) draw(model porcupine.Model, info porcupine.LinearizationInfo, name string) string {
	f, err := os.CreateTemp(j.Dir, "violation-"+strings.ReplaceAll(filepath.Base(name), " ", "-")+"-*.html")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if err := porcupine.Visualize(model, info, f); err != nil {
		return err.Error()
	}
	return f.Name()
}
