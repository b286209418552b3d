package report

import (
	"context"
	"errors"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// splitAfter is the number of transient failures after which a batch is halved: a slow link
// or a proxy may pass the parts of a batch that it does not pass whole.
const splitAfter = 3

// reportWithRetry repeats one call until Redis has answered it or hard ends. It halves a
// batch that Redis rejects or that keeps failing, so that one outcome fails alone. repeated
// means that an earlier call may have been applied. It returns the outcomes that have to be
// reported again.
func (l *Loop) reportWithRetry(hard context.Context, disposition Disposition, batch []task.Outcome, repeated bool) ([]task.Outcome, error) {
	for try := 1; ; try++ {
		verdicts, err := l.call(hard, disposition, batch)
		if err == nil {
			return l.applyVerdicts(batch, verdicts, repeated), nil
		}
		if hard.Err() != nil {
			return batch, nil
		}
		var rejection Rejection
		rejected := errors.As(err, &rejection)
		if rejected && len(batch) == 1 && reduce(&batch[0], rejection) {
			return batch, nil
		}
		if !rejected || len(batch) == 1 {
			repeated = repeated || !errors.Is(err, ErrUnsent)
			if err := l.Store.Recover(hard, err); err != nil {
				return batch, err
			}
			if hard.Err() != nil {
				return batch, nil
			}
		}
		if len(batch) > 1 && (rejected || try >= splitAfter) {
			return l.reportHalves(hard, disposition, batch, repeated)
		}
	}
}

// reportHalves reports the two halves of a batch one after the other.
func (l *Loop) reportHalves(hard context.Context, disposition Disposition, batch []task.Outcome, repeated bool) ([]task.Outcome, error) {
	first, second := batch[:len(batch)/2], batch[len(batch)/2:]
	again, err := l.reportWithRetry(hard, disposition, first, repeated)
	if err != nil || hard.Err() != nil {
		return slices.Concat(again, second), err
	}
	more, err := l.reportWithRetry(hard, disposition, second, repeated)
	return slices.Concat(again, more), err
}

// reduce replaces an outcome that Redis rejects by a smaller one: a result by a failure with
// the reason, then long texts by short ones, then the outcome by a dead letter without the
// names of the record, which may be as long as the record allows. It returns false if the
// outcome cannot be reduced further.
func reduce(o *task.Outcome, why Rejection) bool {
	switch {
	case o.Value != nil:
		*o = task.Outcome{
			Task: o.Task, Conclusion: task.Failed, Reason: "rejected", Message: why.Explain("result"),
			EndedAt: o.EndedAt, StartedAt: o.StartedAt, Slot: o.Slot, PID: o.PID,
		}
	case max(len(o.Message), len(o.MessageJSON), len(o.Stderr)) > maxText:
		cutTexts(o)
	case o.Task.Info != task.Info{}:
		o.Conclusion, o.Reason = task.Dead, "rejected"
		o.Message, o.MessageJSON = why.Explain("name in the record"), nil
		o.Task.Info = task.Info{}
	default:
		return false
	}
	return true
}
