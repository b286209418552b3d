package app

import (
	"context"
	"fmt"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// keepUnreported deals with the outcomes that Redis could not be told before
// the end: they go to the spool if there is one, or else are named in the log;
// their records are delivered again then. Those of our own Redis have ended with it.
func (a *App) keepUnreported() {
	left := a.box.Left()
	if len(left) == 0 {
		return
	}
	if a.local != nil {
		for _, o := range left {
			a.log.Warn("not reported before the end: it is lost with the embedded redis",
				append(o.Task.LogAttrs(), "outcome", o.Kind.String())...)
		}
		return
	}
	if a.cfg.SpoolDir != "" && a.lastRun != "" {
		path, err := a.spooler(nil).Keep(a.lastRun, left)
		if err == nil {
			a.log.Warn("redis did not come back: outcomes are spooled for the next start", "outcomes", len(left), "file", path)
			return
		}
		a.log.Error("outcomes could not be spooled", "error", err)
	}
	for _, o := range left {
		a.log.Warn("not reported before the end: it will be delivered again",
			append(o.Task.LogAttrs(), "outcome", o.Kind.String())...)
	}
}

// prepareSpool sees to it that the spool can be used, while somebody looks.
func prepareSpool(c *config.Config) error {
	if c.SpoolDir == "" {
		return nil
	}
	if err := spool.Prepare(c.SpoolDir); err != nil {
		return &config.Error{Err: fmt.Errorf("SIDECAR_SPOOL_DIR cannot be used: %w", err)}
	}
	return nil
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
