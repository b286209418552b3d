package app

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// StartError says that the worker could not be started; see its message.
type StartError = local.StartError

// filing is the stages' sink: it decides what a retryable failure becomes, and a death
// that a stop has caused, before the outcome is filed.
type filing struct {
	box         *report.Box
	maxAttempts int
	stops       *stopExcuse
}

func (a *App) sink() rpc.Sink {
	a.stops.clock = a.clock
	f := &filing{box: a.box, maxAttempts: a.cfg.MaxAttempts, stops: &a.stops}
	if a.hooks.sink != nil {
		return a.hooks.sink(f)
	}
	return f
}

// Done files an outcome.
func (f *filing) Done(o task.Outcome) {
	f.decide(&o)
	if !f.stops.hold(&o, f.box.Done) {
		f.box.Done(o)
	}
}

// DoneAll files outcomes: answers, of which none is a death.
func (f *filing) DoneAll(os []task.Outcome) {
	for i := range os {
		f.decide(&os[i])
	}
	f.box.DoneAll(os)
}

func (f *filing) decide(o *task.Outcome) {
	if o.Kind == task.Retry && o.Reason != report.RedisUnavailable && o.Task.Attempt >= f.maxAttempts {
		o.Kind = task.Failed // it was tried often enough
	}
}

// refuse ends a record that is not to be run.
func (a *App) refuse(t task.Task, reason, message string) {
	a.box.Done(task.Outcome{Task: t, Kind: task.Dead, Reason: reason, Message: message, EndedAt: time.Now()})
}
