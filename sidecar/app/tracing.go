package app

import (
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// trace begins the span of a task, where spans are made.
func (a *App) trace(t *task.Task) task.Span {
	if a.cfg.Tracer == nil {
		return nil
	}
	return a.cfg.Tracer.Start(t)
}

// settled is called when Redis has answered for outcomes for good.
func (a *App) settled(batch []task.Outcome, verdicts []report.Verdict) {
	a.held.Remove(batch)
	a.tracker.Reported()
	for i := range batch {
		o, v := &batch[i], verdicts[i]
		a.countEnded(o, v)
		endSpan(o, string(v))
	}
}

func endSpan(o *task.Outcome, verdict string) {
	if o.Task.Span != nil {
		o.Task.Span.End(o, verdict)
	}
}

// unreported is the verdict of an outcome that Redis could not be told.
const unreported = "unreported"

// tracesBudget is what a stop gives to traces at most: a collector that does not
// answer is not worth more.
const tracesBudget = time.Second

// tracing adds the actor that sends the last spans. It comes after everyone who
// ends one: outcomes that are not reported by then will not be.
func (a *App) tracing(list []actor) []actor {
	if a.cfg.Tracer == nil {
		return list
	}
	at := slices.IndexFunc(list, func(x actor) bool { return x.name == "health" })
	return slices.Insert(list, at, actor{name: "traces", within: tracesBudget, run: func(soft, hard context.Context) error {
		<-soft.Done()
		left := a.box.Left()
		for i := range left {
			endSpan(&left[i], unreported)
		}
		a.cfg.Tracer.Shutdown(hard)
		return nil
	}})
}
