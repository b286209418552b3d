package report

import (
	"context"
	"errors"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// splitAfter is how often a batch may fail for reasons that pass before it goes in
// halves: what a link or a proxy does not bear as a whole may get through in parts.
const splitAfter = 3

// insist repeats one call until Redis has answered it or hard ends. A batch that
// Redis rejects, or that does not get through, goes in halves, so that one outcome
// fails alone. repeated: a try before this one may have been applied.
func (l *Loop) insist(hard context.Context, route Route, batch []task.Outcome, repeated bool) ([]task.Outcome, error) {
	for try := 1; ; try++ {
		verdicts, err := l.call(hard, route, batch)
		if err == nil {
			return l.judge(batch, verdicts, repeated), nil
		}
		if hard.Err() != nil {
			return batch, nil
		}
		var rejection Rejection
		never := errors.As(err, &rejection)
		if never && len(batch) == 1 && reject(&batch[0], rejection) {
			return batch, nil
		}
		if !never || len(batch) == 1 {
			repeated = repeated || !errors.Is(err, ErrUnsent)
			if err := l.Store.Recover(hard, err); err != nil {
				return batch, err
			}
			if hard.Err() != nil {
				return batch, nil
			}
		}
		if len(batch) > 1 && (never || try >= splitAfter) {
			return l.halves(hard, route, batch, repeated)
		}
	}
}

func (l *Loop) halves(hard context.Context, route Route, batch []task.Outcome, repeated bool) ([]task.Outcome, error) {
	first, second := batch[:len(batch)/2], batch[len(batch)/2:]
	again, err := l.insist(hard, route, first, repeated)
	if err != nil || hard.Err() != nil {
		return slices.Concat(again, second), err
	}
	more, err := l.insist(hard, route, second, repeated)
	return slices.Concat(again, more), err
}

// reject makes of an outcome that Redis does not take one that it does: a failure in
// words in place of a result, one with shorter texts, and then a dead letter without the
// names, which may be as long as the record allows. False where nothing is left to leave
// out.
func reject(o *task.Outcome, why Rejection) bool {
	switch {
	case o.Value != nil:
		*o = task.Outcome{
			Task: o.Task, Kind: task.Failed, Reason: "rejected", Message: why.Of("result"),
			EndedAt: o.EndedAt, StartedAt: o.StartedAt, Slot: o.Slot, PID: o.PID,
		}
	case max(len(o.Message), len(o.MessageJSON), len(o.Stderr)) > maxText:
		bound(o)
	case o.Task.Info != task.Info{}:
		o.Kind, o.Reason = task.Dead, "rejected"
		o.Message, o.MessageJSON = why.Of("name in the record"), nil
		o.Task.Info = task.Info{}
	default:
		return false
	}
	return true
}
