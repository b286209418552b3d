package app

import (
	"context"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
)

// runReports is the report stage. It gives up early where a stop has waited long
// enough for a Redis that is gone.
func (a *App) runReports(soft, hard context.Context) error {
	loop := &report.Loop{Store: a.redis.outcomes, Box: a.box, Log: a.log, Settled: a.settled}
	hard, release := a.stopWait.Bound(soft, hard, "outcomes to report", func() (int, time.Time) {
		return a.box.Pending(), a.mon.OutageSince(loop.FailingSince())
	})
	defer release()
	defer context.AfterFunc(hard, a.redis.cutReports)()
	return loop.Run(soft, hard)
}

// runLeave is the stage that ends the run in Redis.
func (a *App) runLeave(soft, hard context.Context) error {
	<-soft.Done()
	if a.isLost() {
		return nil
	}
	if a.stopWait.Over() && a.mon.Away() {
		// The stop has waited for Redis: one that is back by now answers the first
		// attempt.
		var cancel context.CancelFunc
		hard, cancel = context.WithTimeout(hard, speakAtLeast)
		defer cancel()
	}
	defer context.AfterFunc(hard, func() { a.redis.cutLeases(); a.redis.cutLast() })()
	a.lease.Leave(hard)
	return nil
}
