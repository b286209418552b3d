package report_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/modelstore"
)

// reporter is the Redis side of the stage on a model. It is its own lease.
type reporter struct {
	*report.Redis
	model  *modelstore.Redis
	ctx    context.Context
	runErr error
}

func (r *reporter) Current(context.Context) (string, error) { return "w-1", r.runErr }

func (r *reporter) Gone(context.Context, string) (bool, error) { return false, nil }

// onModel calls f in a bubble. The run w-1 is a member and has four deliveries of the open
// group g in flight. A record has two attempts. run is that of a spool file, or "".
func onModel(t *testing.T, run string, f func(t *testing.T, r *reporter)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &reporter{model: modelstore.New(t), ctx: t.Context()}
		r.Redis = report.NewRedis(report.RedisOptions{
			Store: r.model.Store(), Link: r.model.Link(r), MaxAttempts: 2, Run: run,
			RetryAfter: func(attempt int) time.Duration { return time.Duration(attempt) * time.Minute },
		})
		r.model.Do("SADD", "p:sidecar:runs", "w-1")
		r.model.Do("SET", "p:barrier:g:expected", "100")
		r.model.Do("SET", "p:barrier:g", "0")
		for _, o := range undelivered() {
			r.model.Do("HSET", "p:sidecar:inflight:w-1", o.Task.Delivery, string(o.Task.Record))
		}
		f(t, r)
	})
}

// delivered returns the outcome of the n-th delivery, from 1.
func delivered(n int, c task.Conclusion) task.Outcome {
	o := undelivered()[n-1]
	o.Conclusion = c
	return o
}

// report reports a batch, and compares the verdicts.
func (r *reporter) report(t *testing.T, d report.Disposition, want []report.Verdict, batch ...task.Outcome) {
	t.Helper()
	got, err := r.Report(r.ctx, d, batch)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

// losses counts losses of a record, by the cause of the last one.
func (r *reporter) losses(o task.Outcome, n int, cause string) {
	sha := redis.RecordSHA(o.Task.Record)
	r.model.Do("HSET", "p:sidecar:attempts", sha, fmt.Sprint(n, ":", cause))
	r.model.Do("ZADD", "p:sidecar:attempts:at", fmt.Sprint(time.Now().UnixMilli()), sha)
}

// attempts returns what is stored of the attempts of a record.
func (r *reporter) attempts(o task.Outcome) string {
	return r.model.Do("HGET", "p:sidecar:attempts", redis.RecordSHA(o.Task.Record)).Text
}

var dispositions = map[report.Disposition]string{report.Ack: "report", report.Requeue: "release", report.Defer: "delay"}

// TestOutcomesOfAFormerRunAreStale: its deliveries belong to other sidecars. Redis is not asked
// for them, so they do not wait for it.
func TestOutcomesOfAFormerRunAreStale(t *testing.T) {
	for d := range dispositions {
		onModel(t, "", func(t *testing.T, r *reporter) {
			former := delivered(1, task.Failed)
			former.Task.Delivery = "w-12.1"
			r.model.Monitor.Failed(io.EOF)
			r.report(t, d, []report.Verdict{report.Stale, report.Stale}, former, former)
			r.model.Monitor.OK()
			got, err := r.Report(r.ctx, d, []task.Outcome{former, delivered(2, task.Failed), former, delivered(3, task.Failed)})
			if err != nil || got[0] != report.Stale || got[2] != report.Stale || got[1] == report.Stale || got[3] == report.Stale {
				t.Errorf("%v, %v", got, err)
			}
			if n := r.model.Do("HLEN", "p:sidecar:inflight:w-1").Int; n != 2 {
				t.Errorf("%d are in flight", n)
			}
		})
	}
}

// TestAReportThatFails: the error says whether anything may have changed, and the monitor hears
// of a call that succeeded only.
func TestAReportThatFails(t *testing.T) {
	stopped := errors.New("stopped")
	for name, c := range map[string]struct {
		prepare func(r *reporter, script string)
		want    error
		unsent  bool
	}{
		"without a run": {func(r *reporter, _ string) { r.runErr = stopped }, stopped, false},
		"redis is away": {func(r *reporter, _ string) { r.model.Monitor.Failed(io.EOF) }, link.ErrUnavailable, true},
		"no connection": {func(r *reporter, _ string) { r.model.End() }, nil, true},
		"an error":      {func(r *reporter, script string) { r.model.Fail(script, "OOM full") }, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			for d, script := range dispositions {
				onModel(t, "", func(t *testing.T, r *reporter) {
					c.prepare(r, script)
					got, err := r.Report(r.ctx, d, []task.Outcome{delivered(1, task.Failed)})
					if got != nil || err == nil || c.want != nil && !errors.Is(err, c.want) || errors.Is(err, report.ErrUnsent) != c.unsent || errors.Is(err, redis.ErrGone) {
						t.Errorf("%s: %v, %v", script, got, err)
					}
				})
			}
		})
	}
	for d, script := range dispositions {
		onModel(t, "", func(t *testing.T, r *reporter) {
			r.model.Monitor.Failed(redis.ErrClusterNode)
			r.model.Monitor.OK()
			if _, err := r.Report(r.ctx, d, []task.Outcome{delivered(1, task.Failed)}); err != nil || r.model.Monitor.Lost() {
				t.Errorf("%s: %v, lost: %t", script, err, r.model.Monitor.Lost())
			}
		})
	}
}

// TestTheEndsOfARecord: its group counts each, a failure has its text, and a dead letter the
// reason.
func TestTheEndsOfARecord(t *testing.T) {
	onModel(t, "", func(t *testing.T, r *reporter) {
		failed, dead := delivered(2, task.Failed), delivered(3, task.Dead)
		failed.Message = "no such file"
		dead.Reason, dead.Message, dead.Stderr = "attempts", "lost too often", "Killed"
		again := delivered(1, task.Succeeded)
		again.Message = "not for the producer"
		r.report(t, report.Ack, []report.Verdict{"completed", "completed", "dead", report.NotInFlight}, again, failed, dead, again)
		for id, want := range map[string]string{"t0": `"success":true`, "t1": `no such file`, "t2": "lost too often"} {
			text := r.model.Do("HGET", "p:completions:g", id).Text
			if !strings.Contains(text, want) || strings.Contains(text, "not for the producer") {
				t.Errorf("%s: %s, want %s", id, text, want)
			}
		}
		if n := r.model.Do("ZCARD", "p:sidecar:dead").Int; n != 1 {
			t.Errorf("%d dead letters", n)
		}
		if got := r.model.Do("HGET", "p:sidecar:dead:w-1.3", "reason").Text; got != "attempts" {
			t.Errorf("the reason is %q", got)
		}
	})
}

// TestTheEndOfARecordForgetsItsAttempts: if some may be stored.
func TestTheEndOfARecordForgetsItsAttempts(t *testing.T) {
	for name, c := range map[string]struct {
		change func(o *task.Outcome)
		kept   bool
	}{
		"counted":          {func(o *task.Outcome) { o.Task.Counted = true }, false},
		"a second attempt": {func(o *task.Outcome) { o.Task.Attempt = 2 }, false},
		"dead":             {func(o *task.Outcome) { o.Conclusion = task.Dead }, false},
		"dead, and cut": {func(o *task.Outcome) {
			o.Conclusion = task.Dead
			o.Task.Length, o.Task.Record = len(o.Task.Record), o.Task.Record[:5]
		}, false},
		"a first attempt": {func(*task.Outcome) {}, true}, // it was not counted, so no hash is computed
	} {
		t.Run(name, func(t *testing.T) {
			onModel(t, "", func(t *testing.T, r *reporter) {
				o := delivered(1, task.Failed)
				whole := o
				r.losses(whole, 1, "run")
				c.change(&o)
				if _, err := r.Report(r.ctx, report.Ack, []task.Outcome{o}); err != nil {
					t.Fatal(err)
				}
				if got := r.attempts(whole); (got != "") != c.kept {
					t.Errorf("stored is %q", got)
				}
			})
		})
	}
}

// TestAnotherServerAnswersForNone: a server that knows neither the run nor a delivery may be
// another one than that of the lease. The outcomes of a spool file come from a run that has
// ended, so there the answer is one.
func TestAnotherServerAnswersForNone(t *testing.T) {
	batch := []task.Outcome{delivered(1, task.Succeeded), delivered(2, task.Failed)}
	onModel(t, "", func(t *testing.T, r *reporter) {
		r.model.Do("SREM", "p:sidecar:runs", "w-1")
		r.model.Do("DEL", "p:sidecar:inflight:w-1")
		if got, err := r.Report(r.ctx, report.Ack, batch); got != nil || !errors.Is(err, redis.ErrGone) || !errors.Is(err, report.ErrUnsent) {
			t.Errorf("%v, %v", got, err)
		}
		r.model.Do("HSET", "p:sidecar:inflight:w-1", "w-1.2", string(batch[1].Task.Record))
		r.report(t, report.Ack, []report.Verdict{report.Stale, "completed"}, batch...)
	})
	onModel(t, "w-1", func(t *testing.T, r *reporter) {
		r.model.Do("SREM", "p:sidecar:runs", "w-1")
		r.model.Do("HDEL", "p:sidecar:inflight:w-1", "w-1.1")
		r.runErr = errors.New("the sidecar has no run yet")
		r.report(t, report.Ack, []report.Verdict{report.NotInFlight, "completed"}, batch...)
		r.report(t, report.Ack, []report.Verdict{report.NotInFlight, report.NotInFlight}, batch...)
	})
}

// TestReturnedRecords: each loss costs an attempt, the first end before the record was read does
// not, and what is lost for the last time stays in flight.
func TestReturnedRecords(t *testing.T) {
	onModel(t, "", func(t *testing.T, r *reporter) {
		returned, lost, last, unread := delivered(1, task.Returned), delivered(2, task.Lost), delivered(3, task.Lost), delivered(4, task.Returned)
		unread.Unread = true
		r.losses(last, 1, "worker")
		batch := []task.Outcome{returned, lost, last, unread}
		r.report(t, report.Requeue, []report.Verdict{report.Returned, report.Returned, report.Exhausted, report.Returned}, batch...)
		if batch[0].Conclusion != task.Returned || batch[3].Conclusion != task.Returned {
			t.Errorf("returns are logged as %v and %v", batch[0].Conclusion, batch[3].Conclusion)
		}
		if got := r.attempts(returned); got != "" {
			t.Errorf("a return has cost %q", got)
		}
		if got := r.attempts(lost); !strings.HasPrefix(got, "1") {
			t.Errorf("a loss has cost %q", got)
		}
		if all := r.model.Do("HKEYS", "p:sidecar:inflight:w-1").Texts(); !slices.Equal(all, []string{"w-1.3"}) {
			t.Errorf("in flight are %v", all)
		}
		r.report(t, report.Requeue, []report.Verdict{report.NotInFlight}, returned)
		r.model.Do("HSET", "p:sidecar:inflight:w-1", unread.Task.Delivery, string(unread.Task.Record))
		batch = []task.Outcome{unread}
		r.report(t, report.Requeue, []report.Verdict{report.Returned}, batch...)
		if batch[0].Conclusion != task.Lost {
			t.Errorf("a second end before the record was read is logged as %v", batch[0].Conclusion)
		}
	})
}

// TestDeferredRecords: a retry waits by the number of its attempt and uses it, unless Redis was
// to blame. A record that must run alone waits for an idle sidecar.
func TestDeferredRecords(t *testing.T) {
	onModel(t, "", func(t *testing.T, r *reporter) {
		retry, blameless, alone := delivered(1, task.Retry), delivered(2, task.Retry), delivered(3, task.Returned)
		retry.Task.Attempt, blameless.Reason, alone.Isolate = 2, report.RedisUnavailable, true
		r.losses(alone, 1, "run")
		r.report(t, report.Defer, []report.Verdict{report.Delayed, report.Delayed, report.Delayed, report.NotInFlight}, retry, blameless, alone, retry)
		for o, want := range map[*task.Outcome]struct {
			after    time.Duration
			attempts string
		}{&retry: {2 * time.Minute, "1"}, &blameless: {time.Minute, ""}, &alone: {10 * time.Second, "1"}} {
			due := fmt.Sprint(time.Now().Add(want.after).UnixMilli())
			got := r.attempts(*o)
			if at := r.model.Do("ZSCORE", "p:sidecar:delayed", o.Task.Delivery).Text; at != due || !strings.HasPrefix(got, want.attempts) || want.attempts == "" && got != "" {
				t.Errorf("%s is due at %s, want %s; its attempts are %q", o.Task.Delivery, at, due, got)
			}
		}
		if all := r.model.Do("ZRANGE", "p:sidecar:isolated", "0", "-1").Texts(); !slices.Equal(all, []string{"w-1.3"}) {
			t.Errorf("isolated are %v", all)
		}
	})
}
