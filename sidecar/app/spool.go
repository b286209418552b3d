package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/store"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// keepUnreported deals with the outcomes that Redis could not be told before
// the end: they go to the spool if there is one, or else are named in the log;
// their records are delivered again then.
func (a *App) keepUnreported() {
	left := a.box.Left()
	if len(left) == 0 {
		return
	}
	if a.cfg.SpoolDir != "" && a.lastRun != "" {
		h := a.spoolHeader()
		h.Run, h.At = a.lastRun, time.Now()
		path, err := spool.Write(a.cfg.SpoolDir, h, left)
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
func (c *Config) prepareSpool() error {
	if c.SpoolDir == "" {
		return nil
	}
	if err := spool.Prepare(c.SpoolDir); err != nil {
		return &ConfigError{Err: fmt.Errorf("SIDECAR_SPOOL_DIR cannot be used: %w", err)}
	}
	return nil
}

func (a *App) spoolHeader() spool.Header {
	return spool.Header{Server: a.cfg.Redis.Address(), Prefix: a.cfg.KeyPrefix}
}

// applySpool reports what an earlier run could not, before this one scans or
// claims anything. It returns when ctx ends, too; the files are there next time.
func (a *App) applySpool(ctx context.Context, st *store.Store) error {
	if a.cfg.SpoolDir == "" {
		return nil
	}
	paths, err := spool.List(a.cfg.SpoolDir)
	if err != nil {
		a.log.Warn("the spool cannot be read", "error", err)
		return nil
	}
	for _, path := range paths {
		f, err := spool.Open(path)
		switch {
		case errors.Is(err, spool.ErrBusy), errors.Is(err, fs.ErrNotExist):
			continue // another sidecar is at it
		case err != nil:
			a.log.Warn("a spool file cannot be used and is left alone", "file", path, "error", err)
			continue
		case !f.Header.Matches(a.spoolHeader()):
			a.log.Warn("a spool file belongs to another Redis or prefix and is left alone",
				"file", path, "redis", f.Header.Server, "key_prefix", f.Header.Prefix)
			_ = f.Close()
			continue
		}
		if err := a.applyFile(ctx, st, f); err != nil {
			_ = f.Close()
			return err
		}
	}
	return nil
}

// applyFile reports the outcomes of one file under the run that wrote it, which
// is over: what else it held goes back to the queue.
func (a *App) applyFile(ctx context.Context, st *store.Store, f *spool.File) error {
	old := &reports{
		link: a.newLink(), st: st, maxAttempts: a.cfg.MaxAttempts,
		retryAfter: a.cfg.Retry.delay, fixed: f.Header.Run,
	}
	applied, superseded := 0, 0
	box := report.NewBox()
	for _, o := range f.Outcomes {
		box.Done(o)
	}
	loop := &report.Loop{Store: old, Box: box, Log: a.log, Settled: func(batch []task.Outcome, verdicts []report.Verdict) {
		for i, v := range verdicts {
			if v != report.Stale {
				applied++
				continue
			}
			superseded++
			a.log.Warn("a spooled outcome is superseded: its record was taken over and runs again",
				batch[i].Task.LogAttrs()...)
		}
	}}
	// The soft context is over from the start: report what is there, and end.
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := loop.Run(over, ctx); err != nil {
		return err
	}
	if box.Pending() > 0 {
		return f.Close() // stopped meanwhile
	}
	for {
		err := st.Leave(ctx, f.Header.Run)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return f.Close()
		}
		if err := old.Recover(ctx, err); err != nil {
			return err
		}
	}
	a.log.Info("spooled outcomes of an earlier run are reported", "run", f.Header.Run, "outcomes", applied, "superseded", superseded)
	return f.Remove()
}
