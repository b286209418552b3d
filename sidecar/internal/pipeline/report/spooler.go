package report

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Spooler keeps outcomes on disk that Redis could not be told before the end of a
// sidecar, and reports them at the next start.
type Spooler struct {
	Dir string
	// Server and Prefix say whose outcomes these are: those of another Redis or prefix
	// are left alone.
	Server, Prefix string
	Log            *slog.Logger
	// NewRedis makes what reports for a run that is over.
	NewRedis func(run string) *Redis
}

// Keep writes outcomes of a run to a file. Without a Dir or a run, or where that fails,
// it names them in the log: their records are delivered again then.
func (s *Spooler) Keep(run string, outcomes []task.Outcome) {
	if len(outcomes) > 0 && s.Dir != "" && run != "" {
		h := s.header()
		h.Run, h.At = run, time.Now()
		bySize(outcomes)
		path, err := spool.Write(s.Dir, h, outcomes)
		if err == nil {
			s.Log.Warn("redis did not come back: outcomes are spooled", "outcomes", len(outcomes), "file", path)
			return
		}
		s.Log.Error("outcomes could not be spooled", "error", err)
	}
	for i := range outcomes {
		s.Log.Warn("not reported before the end: it will be delivered again",
			append(outcomes[i].Task.LogAttrs(), "outcome", outcomes[i].Kind.String())...)
	}
}

func (s *Spooler) header() spool.Header { return spool.Header{Server: s.Server, Prefix: s.Prefix} }

// spoolBatch is how many bytes of a spool file are reported at once, or one outcome.
const spoolBatch = 4 << 20

// Apply reports what earlier runs could not, beside everything else: a spool
// of hundreds of megabytes over a slow link held up the start until it was through.
// It returns when ctx ends, too; what is left is there next time.
func (s *Spooler) Apply(ctx context.Context, st *redis.Store) {
	paths, err := spool.List(s.Dir)
	if err != nil {
		s.Log.Warn("spool cannot be read", "error", err)
		return
	}
	var files []*spool.File
	for _, path := range paths {
		f, err := spool.Open(path)
		switch {
		case errors.Is(err, spool.ErrBusy), errors.Is(err, fs.ErrNotExist):
			// another sidecar is at it
		case err != nil:
			s.Log.Warn("spool file cannot be used and is skipped", "file", path, "error", err)
		case !f.Header.Matches(s.header()):
			s.Log.Warn("spool file of another redis or prefix is skipped",
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
		wg.Go(func() { s.keepRun(keep, st, f.Header.Run) })
	}
	for i, f := range files {
		if err := s.applyFile(ctx, st, f); err != nil {
			s.Log.Error("spool file cannot be reported and is kept", "file", f.Path(), "error", err)
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
func (s *Spooler) keepRun(ctx context.Context, st *redis.Store, run string) {
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
func (s *Spooler) applyFile(ctx context.Context, st *redis.Store, f *spool.File) error {
	old := s.NewRedis(f.Header.Run)
	applied, superseded := 0, 0
	box := NewBox()
	loop := &Loop{Store: old, Box: box, Log: s.Log, Settled: func(batch []task.Outcome, verdicts []Verdict) {
		for i, v := range verdicts {
			if v != Stale {
				applied++
				continue
			}
			superseded++
			s.Log.Warn("spooled outcome is superseded",
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
	s.Log.Info("spooled outcomes of an earlier run are reported", "run", f.Header.Run, "outcomes", applied, "superseded", superseded)
	if bad := f.Bad(); len(bad) > 0 {
		path, err := f.SetAside()
		s.Log.Error("spool file has unreadable lines and is kept", "file", path, "lines", bad, "error", err)
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
