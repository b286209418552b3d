//go:build simulation

package simulation

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// TestPlantedMistakesAreFound plants mistakes into the sidecars or their scripts, one at a
// time, and runs seeds until a promise is broken. It also tells how many replays of that
// seed break a promise again.
func TestPlantedMistakesAreFound(t *testing.T) {
	redis.SetLogger(nil)
	const atMost, replays = 150, 4
	for name, planted := range mistakes {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			planted.plan = func(p *plan) { p.duration = min(p.duration, 5*time.Minute) }
			for seed := uint64(1); seed <= atMost; seed++ {
				if r := runSeed(t, seed, planted); len(r.Violations) > 0 {
					took, again := time.Since(began), 0
					for range replays {
						if len(runSeed(t, seed, planted).Violations) > 0 {
							again++
						}
					}
					t.Logf("found by seed %d after %v, again by %d of %d replays, %d violations by the second judge: %s", seed, took.Round(100*time.Millisecond), again, replays, len(r.Second.Violations), short(r.Violations[0]))
					return
				}
			}
			t.Errorf("not found by %d seeds", atMost)
		})
	}
}

// edit returns a change of the scripts that contain a text.
func edit(from, to string) func(source string) string {
	return func(source string) string { return strings.ReplaceAll(source, from, to) }
}

var mistakes = map[string]breakage{
	"a report is not checked against what is in flight": {script: edit("if not found then\n    missing_verdict", "if false then\n    missing_verdict")},
	"a barrier counts a task again":                     {script: edit("if not known[n] then", "if true then")},
	"the end of a group is not published":               {script: edit("redis.call('PUBLISH', P .. ':barrier_done:'", "redis.call('ECHO', P .. ':barrier_done:'")},
	"an outcome is dropped between worker and report":   {sink: func(s rpc.Sink) rpc.Sink { return &forgetful{Sink: s} }},
	"a report without an answer counts as done": {redis: func(r *testhook.Redis) {
		r.Outcomes = credulous{r.Outcomes}
	}},
	"a result that Redis rejects is tried for ever": {redis: func(r *testhook.Redis) {
		r.Outcomes = stubborn{r.Outcomes}
	}},
	"dead runs are not reaped": {redis: func(r *testhook.Redis) {
		r.Leases = blind{r.Leases}
	}},
}

// forgetful drops one of thirty outcomes.
type forgetful struct {
	rpc.Sink
	n atomic.Int64
}

func (f *forgetful) Add(o task.Outcome) {
	if f.n.Add(1)%30 != 0 {
		f.Sink.Add(o)
	}
}

func (f *forgetful) AddAll(os []task.Outcome) {
	for _, o := range os {
		f.Add(o)
	}
}

// credulous takes a failed call for one that was applied.
type credulous struct{ report.Store }

func (c credulous) Report(ctx context.Context, how report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	v, err := c.Store.Report(ctx, how, batch)
	if err != nil {
		v = make([]report.Verdict, len(batch))
		for i := range v {
			v[i] = report.Applied
		}
	}
	return v, nil
}

// stubborn takes what Redis never accepts for an outage.
type stubborn struct{ report.Store }

func (s stubborn) Report(ctx context.Context, how report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	v, err := s.Store.Report(ctx, how, batch)
	if _, rejected := errors.AsType[report.Rejection](err); rejected {
		err = errors.New("not now")
	}
	return v, err
}

// blind sees no dead run.
type blind struct{ lease.Store }

func (b blind) Tick(ctx context.Context, run string) ([]string, error) {
	_, err := b.Store.Tick(ctx, run)
	return nil, err
}
