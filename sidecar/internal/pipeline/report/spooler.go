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

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Spooler writes outcomes to disk that could not be reported before the end of a sidecar,
// and reports them at the next start.
//
// A disk that does not answer holds up none of its methods: each operation is bounded, and
// goes on without them.
type Spooler struct {
	Folder spool.Folder
	// Server and Prefix identify the Redis and the key prefix. Replay skips the files of
	// others.
	Server, Prefix string
	Log            *slog.Logger
	// NewRedis returns the store that reports for an ended run.
	NewRedis func(run string) *Redis
}

// prepareTimeout is how long a start waits for the disk of the spool.
const prepareTimeout = 2 * time.Second

// Prepare makes the folder and checks at the start that it can be written. It returns a
// *config.Error if the setting is wrong. A disk that is full, fails or does not answer is
// logged: a start that waited for it, or failed, would leave the queue to no sidecar.
func (s *Spooler) Prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	_, err := bounded(ctx, 0, func() (struct{}, error) { return struct{}{}, s.Folder.Prepare() })
	if _, wrong := errors.AsType[*config.Error](err); wrong {
		return err
	}
	if err != nil {
		s.Log.Warn("spool cannot be written now", "folder", s.Folder.Path, "error", err)
	}
	return nil
}

// Write writes the outcomes of a run to a file. Without a folder or a run, after a failure and
// at the end of ctx, it logs them instead: their records are then delivered again.
func (s *Spooler) Write(ctx context.Context, run string, outcomes []task.Outcome) {
	if len(outcomes) > 0 && s.Folder.Path != "" && run != "" {
		h := s.header()
		h.Run, h.At = run, time.Now()
		sortForSpool(outcomes)
		path, err := bounded(ctx, 0, func() (string, error) { return s.Folder.Write(ctx, h, outcomes) })
		if err == nil {
			s.Log.Warn("redis did not come back: outcomes are spooled", "outcomes", len(outcomes), "file", path)
			return
		}
		s.Log.Error("outcomes could not be spooled", "error", err)
	}
	for i := range outcomes {
		s.Log.Warn("not reported before the end: it will be delivered again",
			append(outcomes[i].Task.LogAttrs(), "outcome", outcomes[i].Conclusion.String())...)
	}
}

func (s *Spooler) header() spool.Header { return spool.Header{Server: s.Server, Prefix: s.Prefix} }

// spoolBatch is the maximum number of bytes that are read from a spool file at once, unless
// one outcome exceeds it.
const spoolBatch = 4 << 20

// onDisk calls f, see bounded.
func onDisk[T any](ctx context.Context, f func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, diskTimeout)
	defer cancel()
	return bounded(ctx, diskGrace, f)
}

// Replay reports the spooled outcomes of earlier runs. It runs beside the stages, because a
// spool of hundreds of megabytes over a slow link once delayed the start. It also returns
// when ctx ends; the rest is reported at the next start. It gives up when the disk does not
// answer.
func (s *Spooler) Replay(ctx context.Context, st *redis.Store) {
	paths, err := onDisk(ctx, s.Folder.List)
	if err != nil {
		s.Log.Warn("spool cannot be read", "error", err)
		return
	}
	var files []*spool.File
	for _, path := range paths {
		f, err := onDisk(ctx, func() (*spool.File, error) { return s.Folder.Open(path) })
		switch {
		case errors.Is(err, spool.ErrBusy), errors.Is(err, fs.ErrNotExist):
			// another sidecar reports it
		case err != nil:
			s.Log.Warn("spool file cannot be used and is skipped", "file", path, "error", err)
			if errors.Is(err, errStalled) {
				return
			}
		case !f.Header.Matches(s.header()):
			s.Log.Warn("spool file of another redis or prefix is skipped",
				"file", path, "redis", f.Header.Server, "key_prefix", f.Header.Prefix)
			if _, err := onDisk(ctx, func() (struct{}, error) { return struct{}{}, f.Close() }); errors.Is(err, errStalled) {
				return
			}
		default:
			files = append(files, f)
		}
	}
	// The leases of all runs are kept from the start. The sidecars would otherwise reap
	// the later runs while the first file is reported.
	var wg sync.WaitGroup
	defer wg.Wait()
	all, cancel := context.WithCancel(ctx)
	defer cancel()
	kept := make([]context.CancelFunc, len(files))
	for i, f := range files {
		var keep context.Context
		keep, kept[i] = context.WithCancel(all)
		wg.Go(func() { s.keepRun(keep, st, f.Header.Run) })
	}
	for i, f := range files {
		err := s.replayFile(ctx, st, f)
		if err != nil {
			s.Log.Error("spool file cannot be reported and is kept", "file", f.Path(), "error", err)
		}
		kept[i]()
		if errors.Is(err, errStalled) {
			return
		}
	}
}

const (
	// renewInterval is the interval between renewals of a spooled run's lease. It is short
	// enough for a lease that ran out when Redis was away until now.
	renewInterval = time.Second
	renewTimeout  = time.Second // of each call
)

// keepRun renews the lease of a run whose outcomes are being reported. Without the lease the
// run counts as dead, its records are requeued, and its spooled outcomes are superseded.
// keepRun returns when the run is not a member.
func (s *Spooler) keepRun(ctx context.Context, st *redis.Store, run string) {
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, renewTimeout)
		err := st.Renew(call, run)
		cancel()
		if errors.Is(err, redis.ErrGone) {
			return
		}
		backoff.Sleep(ctx, renewInterval)
	}
}

// replayFile reports the outcomes of one file under the run that wrote it, and ends that
// run: its other deliveries return to the queue. It closes the file, unless its error wraps
// errStalled.
func (s *Spooler) replayFile(ctx context.Context, st *redis.Store, f *spool.File) error {
	old := s.NewRedis(f.Header.Run)
	applied, superseded := 0, 0
	box := NewBuffer()
	loop := &Loop{Store: old, Buffer: box, Log: s.Log, OnSettled: func(batch []task.Outcome, verdicts []Verdict) {
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
	// With an ended soft context, Loop.Run reports the buffer and returns.
	over, cancel := context.WithCancel(ctx)
	cancel()
	for {
		from := f.At()
		batch, err := onDisk(ctx, func() ([]task.Outcome, error) { return f.Next(spoolBatch) })
		if errors.Is(err, errStalled) {
			return err
		}
		if err != nil {
			return errors.Join(err, cutTo(ctx, f, from))
		}
		if len(batch) == 0 {
			break
		}
		box.AddAll(batch)
		if err := loop.Run(over, ctx); err != nil {
			return errors.Join(err, cutTo(ctx, f, from))
		}
		if box.Pending() > 0 {
			return cutTo(ctx, f, from) // hard has ended
		}
	}
	for {
		err := st.Leave(ctx, f.Header.Run)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return cutTo(ctx, f, f.At())
		}
		if err := old.Recover(ctx, err); err != nil {
			return errors.Join(err, cutTo(ctx, f, f.At()))
		}
	}
	s.Log.Info("spooled outcomes of an earlier run are reported", "run", f.Header.Run, "outcomes", applied, "superseded", superseded)
	if len(f.Bad()) == 0 && f.Missing() == 0 {
		_, err := onDisk(ctx, func() (struct{}, error) { return struct{}{}, f.Remove() })
		return err
	}
	path, err := onDisk(ctx, f.SetAside)
	if errors.Is(err, errStalled) {
		return err
	}
	if bad := f.Bad(); len(bad) > 0 {
		s.Log.Error("spool file has unreadable lines and is kept", "file", path, "lines", bad, "missing", f.Missing(), "error", err)
	} else {
		s.Log.Error("spool file has lost outcomes and is kept", "file", path, "missing", f.Missing(), "error", err)
	}
	return nil
}

// cutTo is [spool.File.CutTo], bounded.
func cutTo(ctx context.Context, f *spool.File, m spool.Mark) error {
	_, err := onDisk(ctx, func() (struct{}, error) { return struct{}{}, f.CutTo(m) })
	return err
}

// sortForSpool sorts outcomes for the spool: first the returned records, in descending claim
// order, then the others by size, so that a large one delays none of them.
func sortForSpool(outcomes []task.Outcome) {
	size := func(o *task.Outcome) int {
		if o.Conclusion == task.Returned {
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
