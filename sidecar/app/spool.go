package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
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
		h := a.spoolHeader()
		h.Run, h.At = a.lastRun, time.Now()
		bySize(left)
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
func prepareSpool(c *config.Config) error {
	if c.SpoolDir == "" {
		return nil
	}
	if err := spool.Prepare(c.SpoolDir); err != nil {
		return &config.Error{Err: fmt.Errorf("SIDECAR_SPOOL_DIR cannot be used: %w", err)}
	}
	return nil
}

func (a *App) spoolHeader() spool.Header {
	return spool.Header{Server: a.cfg.Redis.Address(), Prefix: a.cfg.KeyPrefix}
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

// spoolBatch is how many bytes of a spool file are reported at once, or one outcome.
const spoolBatch = 4 << 20

// applySpool reports what earlier runs could not, beside everything else: a spool
// of hundreds of megabytes over a slow link held up the start until it was through.
// It returns when ctx ends, too; what is left is there next time.
func (a *App) applySpool(ctx context.Context, st *redis.Store) {
	paths, err := spool.List(a.cfg.SpoolDir)
	if err != nil {
		a.log.Warn("the spool cannot be read", "error", err)
		return
	}
	var files []*spool.File
	for _, path := range paths {
		f, err := spool.Open(path)
		switch {
		case errors.Is(err, spool.ErrBusy), errors.Is(err, fs.ErrNotExist):
			// another sidecar is at it
		case err != nil:
			a.log.Warn("a spool file cannot be used and is left alone", "file", path, "error", err)
		case !f.Header.Matches(a.spoolHeader()):
			a.log.Warn("a spool file belongs to another Redis or prefix and is left alone",
				"file", path, "redis", f.Header.Server, "key_prefix", f.Header.Prefix)
			_ = f.Close()
		default:
			files = append(files, f)
		}
	}
	// All runs are kept from the start: the other sidecars, and this one, would take
	// them for dead while the first file is reported.
	var wg sync.WaitGroup
	kept := make([]context.CancelFunc, len(files))
	for i, f := range files {
		var keep context.Context
		keep, kept[i] = context.WithCancel(ctx)
		wg.Go(func() { a.keepRun(keep, st, f.Header.Run) })
	}
	for i, f := range files {
		if err := a.applyFile(ctx, st, f); err != nil {
			a.log.Error("a spool file cannot be reported and is kept", "file", f.Path(), "error", err)
		}
		kept[i]()
	}
	wg.Wait()
}

const (
	// keepEvery is how often the lease of a spooled run is lengthened: it is soon
	// enough for one that ran out when Redis came back only now.
	keepEvery = time.Second
	keepCall  = time.Second // bounds each call
)

// keepRun keeps the lease of a run whose outcomes are being reported. Without it the
// run counts as dead, its records go back to the queue, and what is spooled is
// superseded. One that is no member any more is left alone.
func (a *App) keepRun(ctx context.Context, st *redis.Store, run string) {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, keepCall)
		err := st.Renew(call, run)
		cancel()
		if errors.Is(err, redis.ErrGone) {
			return
		}
		backoff.Sleep(ctx, keepEvery)
	}
}

// applyFile reports the outcomes of one file under the run that wrote it, which
// is over: what else it held goes back to the queue. It closes the file.
func (a *App) applyFile(ctx context.Context, st *redis.Store, f *spool.File) error {
	old := report.NewRedis(report.RedisOptions{
		Store: st, Link: a.newLink(), MaxAttempts: a.cfg.MaxAttempts, RetryAfter: a.cfg.Retry.Delay, Run: f.Header.Run,
	})
	applied, superseded := 0, 0
	box := report.NewBox()
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
	for {
		from := f.At()
		batch, err := f.Next(spoolBatch)
		if err != nil {
			return errors.Join(err, f.CutTo(from))
		}
		if len(batch) == 0 {
			break
		}
		box.DoneAll(batch)
		if err := loop.Run(over, ctx); err != nil {
			return errors.Join(err, f.CutTo(from))
		}
		if box.Pending() > 0 {
			return f.CutTo(from) // stopped meanwhile
		}
	}
	for {
		err := st.Leave(ctx, f.Header.Run)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return f.CutTo(f.At())
		}
		if err := old.Recover(ctx, err); err != nil {
			return errors.Join(err, f.CutTo(f.At()))
		}
	}
	a.log.Info("spooled outcomes of an earlier run are reported", "run", f.Header.Run, "outcomes", applied, "superseded", superseded)
	if bad := f.Bad(); len(bad) > 0 {
		path, err := f.SetAside()
		a.log.Error("a spool file holds lines that cannot be read, and is kept", "file", path, "lines", bad, "error", err)
		return nil
	}
	return f.Remove()
}

// bySize orders outcomes for the spool: first what goes back to the queue, the latest
// claimed first, then the others, the smallest first, so that one that takes long
// to report holds up none of them.
func bySize(outcomes []task.Outcome) {
	size := func(o *task.Outcome) int {
		if o.Kind == task.Returned {
			return -1
		}
		return len(o.Task.Record) + len(o.Value)
	}
	slices.SortStableFunc(outcomes, func(x, y task.Outcome) int {
		a, b := size(&x), size(&y)
		if a < 0 && b < 0 {
			return cmp.Compare(y.Task.Seq, x.Task.Seq)
		}
		return cmp.Compare(a, b)
	})
}
