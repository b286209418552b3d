package app

import (
	"context"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// keepUndelivered deals with the outcomes that Redis could not be told before the end.
// Those of our own Redis have ended with it.
func (a *App) keepUndelivered() {
	left := a.box.Left()
	if a.local == nil {
		a.spooler(nil).Keep(a.lastRun, left)
		return
	}
	for i := range left {
		a.log.Warn("not reported before the end: lost with the embedded redis",
			append(left[i].Task.LogAttrs(), "outcome", left[i].Kind.String())...)
	}
}

// spooler makes what keeps and reports outcomes on disk.
func (a *App) spooler(st *redis.Store) *report.Spooler {
	return &report.Spooler{
		Dir: a.cfg.SpoolDir, Server: a.cfg.Redis.Address(), Prefix: a.cfg.KeyPrefix, Log: a.log,
		NewRedis: func(run string) *report.Redis { return report.NewRedis(a.reportOptions(st, run)) },
	}
}

// spooling adds the stage that reports the spool, if there is one: after claim,
// beside everything else. Its calls are cut at a stop: what it has not reported stays
// where it is.
func (a *App) spooling(list []actor) []actor {
	if a.redis.spool == nil {
		return list
	}
	after := slices.IndexFunc(list, func(x actor) bool { return x.name == "claim" }) + 1
	return slices.Insert(list, after, actor{name: "spool", run: func(soft, _ context.Context) error {
		defer context.AfterFunc(soft, a.redis.cutSpool)()
		a.redis.spool(soft)
		<-soft.Done()
		return nil
	}})
}
