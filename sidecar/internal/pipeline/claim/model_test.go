package claim_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/modelstore"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// queue is the Redis side of the stage on a model. It is its own lease, and its own demand.
type queue struct {
	claim.Source
	model    *modelstore.Redis
	store    *redis.Store
	ctx      context.Context
	run      string // the registered run
	runErr   error
	gone     int // refusals that the lease was told of
	paused   bool
	alone    bool // a record that must run alone could start
	arrived  int
	parked   link.Parked
	longWait atomic.Bool
	demands  []int
}

func (q *queue) Current(context.Context) (string, error) { return q.run, q.runErr }

func (q *queue) Gone(context.Context, string) (bool, error) { q.gone++; return false, nil }

func (q *queue) Demands() []int { return q.demands }

func (q *queue) AwaitDemand(context.Context, time.Duration) {}

// onModel calls f in a bubble with a source for tasks of all kinds, or for those of two kinds
// whose patterns are a* and b*, of which each has one free slot. The run w-1 is registered.
func onModel(t *testing.T, kinds bool, f func(t *testing.T, q *queue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, modelstore.New(t), kinds)
		f(t, q)
	})
}

func newQueue(t *testing.T, model *modelstore.Redis, kinds bool) *queue {
	t.Helper()
	q := &queue{model: model, ctx: t.Context(), run: "w-1", demands: []int{1, 1}}
	q.store = model.Store()
	o := claim.RedisOptions{
		Store: q.store, NewLink: func() *link.Link { return model.Link(q) }, PollInterval: 3 * time.Second, MaxAttempts: 3,
		Paused:    func(run string) bool { return q.paused && run == q.run },
		OnArrival: func() { q.arrived++ }, Parked: &q.parked, CanIsolate: func() bool { return q.alone }, LongWait: &q.longWait,
	}
	q.Source = claim.NewRedis(o)
	if kinds {
		q.Source = claim.NewRoutedRedis(o, q, []string{"a*", "b*"}, time.Minute)
	}
	if err := q.store.Register(q.ctx, q.run); err != nil {
		t.Fatal(err)
	}
	return q
}

func (q *queue) push(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, _, err := q.store.Push(q.ctx, []byte(record(id))); err != nil {
			t.Fatal(err)
		}
	}
}

// isolate adds a record that must run alone, as delay.lua stores it.
func (q *queue) isolate(id string) {
	due := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	q.model.Do("HSET", "p:sidecar:delayed:records", "w-9."+id, record(id))
	q.model.Do("ZADD", "p:sidecar:delayed", due, "w-9."+id)
	q.model.Do("ZADD", "p:sidecar:isolated", due, "w-9."+id)
	q.parked.Isolated.Store(1)
}

// claim claims up to five records and returns the ids of their tasks.
func (q *queue) claim(nonce string) (ids []string, err error) {
	ts, err := q.Claim(q.ctx, nonce, 5)
	for _, c := range ts {
		info, _ := task.Decode(c.Record)
		ids = append(ids, info.TaskID)
	}
	return ids, err
}

// both calls f for a source of each sort.
func both(t *testing.T, f func(t *testing.T, q *queue)) {
	t.Helper()
	for name, kinds := range map[string]bool{"one kind": false, "two kinds": true} {
		t.Run(name, func(t *testing.T) { onModel(t, kinds, f) })
	}
}

// TestAClaimOfRedis: records become tasks that are attempted for the first time.
func TestAClaimOfRedis(t *testing.T) {
	both(t, func(t *testing.T, q *queue) {
		q.push(t, "a", "b")
		ts, err := q.Claim(q.ctx, "n1", 5)
		if err != nil || len(ts) != 2 {
			t.Fatal(ts, err)
		}
		if c := ts[0]; string(c.Record) != record("a") || c.Delivery != "w-1.1" || c.Seq != 1 || c.Attempt != 1 || c.Isolation != task.IsolateNone {
			t.Errorf("%+v", c)
		}
		q.model.Monitor.Failed(redismodel.ErrorReply("READONLY"))
		if _, err := q.claim("n2"); !errors.Is(err, link.ErrUnavailable) && err != nil || q.model.Monitor.Lost() != (err != nil) {
			t.Errorf("%v; lost is %t", err, q.model.Monitor.Lost())
		}
	})
}

// TestNothingIsClaimed: without a run, while Redis is away, and while the run is paused.
func TestNothingIsClaimed(t *testing.T) {
	noRun := errors.New("stopped")
	for name, c := range map[string]struct {
		prepare func(q *queue)
		want    error
	}{
		"without a run": {func(q *queue) { q.runErr = noRun }, noRun},
		"redis is away": {func(q *queue) { q.model.Monitor.Failed(io.EOF) }, link.ErrUnavailable},
		"paused":        {func(q *queue) { q.paused = true }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, q *queue) {
				q.push(t, "a")
				if _, err := q.claim("n1"); err != nil { // it tells the source of the run
					t.Fatal(err)
				}
				q.push(t, "a")
				q.parked.Isolated.Store(1)
				q.parked.Unrouted.Store(1)
				q.alone = true
				before := q.calls()
				c.prepare(q)
				if got, err := q.claim("n2"); len(got) > 0 || !errors.Is(err, c.want) || q.calls() != before {
					t.Errorf("claimed %v, %v; %d calls", got, err, q.calls()-before)
				}
				if c.want == nil {
					return
				}
				if came, err := q.Wait(q.ctx); came || !errors.Is(err, c.want) || q.model.Calls("blmove") > 0 {
					t.Errorf("waited: %t, %v, %d times", came, err, q.model.Calls("blmove"))
				}
			})
		})
	}
}

// calls returns how often a script was called that takes records.
func (q *queue) calls() (n int) {
	for _, script := range []string{"claim", "claim_routed", "collect", "take_isolated"} {
		n += q.model.Calls(script)
	}
	return n
}

// TestAFailedClaim: the error of each of its calls is told, and none follows it.
func TestAFailedClaim(t *testing.T) {
	for kinds, scripts := range map[bool][]string{false: {"collect", "take_isolated", "claim"}, true: {"take_isolated", "claim_routed"}} {
		for i, script := range scripts {
			onModel(t, kinds, func(t *testing.T, q *queue) {
				q.push(t, "a")
				q.parked.Isolated.Store(1)
				q.parked.Unrouted.Store(1)
				q.alone = true
				q.model.Fail(script, "OOM full")
				if got, err := q.claim("n1"); len(got) > 0 || err == nil || q.calls() != i+1 {
					t.Errorf("%s: claimed %v, %v after %d calls", script, got, err, q.calls())
				}
			})
		}
	}
}

// TestUnroutedRecordsAreCollected: by a sidecar that takes every task, once a second.
func TestUnroutedRecordsAreCollected(t *testing.T) {
	onModel(t, false, func(t *testing.T, q *queue) {
		if err := q.store.Register(q.ctx, "w-9"); err != nil {
			t.Fatal(err)
		}
		q.push(t, "x")
		if _, err := q.store.ClaimRouted(q.ctx, "w-9", "n", redis.KindDemand{Patterns: []string{"a*"}, Free: []int{1}, Keep: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if got, err := q.claim("n1"); len(got) > 0 || err != nil || q.model.Calls("collect") > 0 {
			t.Errorf("before a tick has seen it: %v, %v", got, err)
		}
		q.parked.Unrouted.Store(1)
		if got, err := q.claim("n2"); !slices.Equal(got, []string{"x"}) || err != nil {
			t.Errorf("claimed %v, %v", got, err)
		}
		for i, want := range []int{1, 1, 1, 2, 2, 2, 2, 3} {
			if got, err := q.claim(fmt.Sprint("m", i)); len(got) > 0 || err != nil {
				t.Errorf("claimed %v, %v", got, err)
			}
			if got := q.model.Calls("collect"); got != want {
				t.Errorf("after %d ms: collected %d times, want %d", 250*i+250, got, want)
			}
			time.Sleep(250 * time.Millisecond)
			if i == 2 {
				time.Sleep(250 * time.Millisecond)
			}
		}
	})
}

// TestAnIsolatedRecordIsClaimedAlone: by a sidecar that can run it now, without others.
func TestAnIsolatedRecordIsClaimedAlone(t *testing.T) {
	both(t, func(t *testing.T, q *queue) {
		q.isolate("alone")
		q.isolate("also")
		if got, err := q.claim("n1"); len(got) > 0 || err != nil || q.model.Calls("take_isolated") > 0 {
			t.Errorf("busy, and took %v, %v", got, err)
		}
		q.parked.Isolated.Store(0)
		q.alone = true
		if got, err := q.claim("n2"); len(got) > 0 || err != nil || q.model.Calls("take_isolated") > 0 {
			t.Errorf("before a tick has seen it: %v, %v", got, err)
		}
	})
	onModel(t, false, func(t *testing.T, q *queue) {
		q.isolate("alone")
		q.push(t, "a", "b")
		q.alone = true
		if got, err := q.claim("n1"); !slices.Equal(got, []string{"alone"}) || err != nil {
			t.Errorf("took %v, %v", got, err)
		}
		if got, err := q.claim("n2"); !slices.Equal(got, []string{"a", "b"}) || err != nil {
			t.Errorf("when others have taken it: %v, %v", got, err)
		}
	})
	onModel(t, true, func(t *testing.T, q *queue) {
		q.isolate("alone")
		q.alone = true
		if got, err := q.claim("n1"); !slices.Equal(got, []string{"alone"}) || err != nil {
			t.Errorf("took %v, %v", got, err)
		}
	})
}

// waits waits once, and returns for how long.
func (q *queue) waits(t *testing.T, want bool) time.Duration {
	t.Helper()
	began := time.Now()
	came, err := q.Wait(q.ctx)
	if err != nil || came != want {
		t.Errorf("waited: %t, %v, want %t", came, err, want)
	}
	return time.Since(began)
}

// TestAWaitForRecords: its end tells whether a claim may find one, and arrivals are announced.
// Waits of an idle sidecar become longer.
func TestAWaitForRecords(t *testing.T) {
	both(t, func(t *testing.T, q *queue) {
		if _, err := q.claim("n1"); err != nil {
			t.Fatal(err)
		}
		idle := func(what string, want time.Duration) {
			t.Helper()
			if d := q.waits(t, false); d != want {
				t.Errorf("%s: waited %v, want %v", what, d, want)
			}
		}
		idle("at first", time.Second)
		idle("then", time.Second)
		idle("idle", 2*time.Second)
		q.parked.Unrouted.Store(1)
		if d := q.waits(t, true); d != time.Second {
			t.Errorf("with parked records: waited %v", d)
		}
		q.parked.Unrouted.Store(0)
		if q.arrived != 0 {
			t.Errorf("%d arrivals", q.arrived)
		}
		time.AfterFunc(time.Second/2, func() { q.model.Do("LPUSH", "p:queue", record("a")) })
		q.model.Monitor.Failed(redismodel.ErrorReply("BUSY"))
		if d := q.waits(t, true); d != time.Second/2 || q.arrived != 1 {
			t.Errorf("a record: waited %v, %d arrivals", d, q.arrived)
		}
		if got, err := q.claim("n2"); !slices.Equal(got, []string{"a"}) || err != nil {
			t.Errorf("claimed %v, %v", got, err)
		}
		idle("after a record", time.Second)
		idle("then", time.Second)
		idle("idle", 2*time.Second)
		q.model.Fail("blmove", "OOM full")
		if d := q.waits(t, true); d != 3*time.Second {
			t.Errorf("refused: polled after %v", d)
		}
		q.model.Fail("blmove", "")
		idle("after an error", time.Second)
		idle("then", time.Second)
	})
}

// TestAWaitOfANewRun: it claims first, since the inbox of the run before is gone.
func TestAWaitOfANewRun(t *testing.T) {
	both(t, func(t *testing.T, q *queue) {
		if _, err := q.claim("n1"); err != nil {
			t.Fatal(err)
		}
		q.run = "w-2"
		if d := q.waits(t, true); d != 0 || q.model.Calls("blmove") > 0 {
			t.Errorf("waited %v", d)
		}
	})
}

// TestAWaitThatIsCut: Redis closes the connection instead of sending a record that is longer
// than it may. The record is in the inbox, so a claim follows; a second cut is an outage.
func TestAWaitThatIsCut(t *testing.T) {
	both(t, func(t *testing.T, q *queue) {
		if _, err := q.claim("n1"); err != nil {
			t.Fatal(err)
		}
		cut := func() {
			time.AfterFunc(time.Second/2, q.model.CloseConns)
		}
		cut()
		if d := q.waits(t, true); d != time.Second/2 || q.arrived != 1 {
			t.Errorf("waited %v, %d arrivals", d, q.arrived)
		}
		cut()
		if came, err := q.Wait(q.ctx); came || err == nil || q.arrived != 1 {
			t.Errorf("the second time: %t, %v, %d arrivals", came, err, q.arrived)
		}
		q.waits(t, false)
		cut()
		if q.waits(t, true); q.arrived != 2 {
			t.Errorf("%d arrivals after another cut", q.arrived)
		}
	})
}

// TestAWaitThatFailsForGood: an error that no pause mends, or that the server has not sent, is
// told.
func TestAWaitThatFailsForGood(t *testing.T) {
	both(t, func(t *testing.T, q *queue) {
		if _, err := q.claim("n1"); err != nil {
			t.Fatal(err)
		}
		for _, reply := range []string{"NOPERM no permission", "LOADING Redis is loading"} {
			q.model.Fail("blmove", reply)
			began := time.Now()
			if came, err := q.Wait(q.ctx); came || err == nil || time.Since(began) > 0 || q.arrived > 0 {
				t.Errorf("%s: %t, %v after %v", reply, came, err, time.Since(began))
			}
		}
	})
}

// claimHead claims a long record, of which a reply brings the head only.
func (q *queue) claimHead(t *testing.T, size int) (whole string, head task.Task) {
	t.Helper()
	whole = long("a", size)
	if _, _, err := q.store.Push(q.ctx, []byte(whole)); err != nil {
		t.Fatal(err)
	}
	ts, err := q.Claim(q.ctx, "n1", 1)
	if err != nil || len(ts) != 1 || !ts[0].IsCut() {
		t.Fatal(len(ts), err)
	}
	return whole, ts[0]
}

// TestALongRecordIsReadInParts: of 512 KiB, as few as it takes. A reply of Redis that refuses
// one for a while changes nothing.
func TestALongRecordIsReadInParts(t *testing.T) {
	for _, size := range []int{16 * redis.PartBytes, 17*redis.PartBytes + 1} {
		onModel(t, false, func(t *testing.T, q *queue) {
			q.model.Probe()
			whole, head := q.claimHead(t, size)
			q.model.Fail("part", "OOM full")
			var refused atomic.Int64
			time.AfterFunc(time.Second, func() {
				q.model.Fail("part", "")
				refused.Store(int64(q.model.Calls("part")))
			})
			got, err := q.Load(q.ctx, q.ctx, head)
			before := int(refused.Load())
			if err != nil || string(got) != whole || before == 0 || q.model.Monitor.Lost() {
				t.Errorf("%d of %d bytes, %v; %d calls were refused", len(got), size, err, before)
			}
			if n := q.model.Calls("part") - before; n != (size+redis.PartBytes*redis.MaxParts-1)/(redis.PartBytes*redis.MaxParts) {
				t.Errorf("%d calls for %d bytes", n, size)
			}
		})
	}
}

// TestARecordIsReadOverANarrowConnection: Redis closes the connection instead of sending more
// than it may, and the parts become smaller.
func TestARecordIsReadOverANarrowConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		model := modelstore.New(t)
		model.OutputLimit = 3 * redis.PartBytes
		model.Probe()
		q := newQueue(t, model, false)
		whole, head := q.claimHead(t, 16*redis.PartBytes)
		got, err := q.Load(q.ctx, q.ctx, head)
		if err != nil || string(got) != whole {
			t.Errorf("%d of %d bytes, %v", len(got), len(whole), err)
		}
	})
}

// TestALoadThatEnds: because its delivery has ended, at a stop, or because Redis refuses it for
// good.
func TestALoadThatEnds(t *testing.T) {
	load := func(t *testing.T, prepare func(q *queue, stop context.CancelFunc)) (record []byte, q *queue, err error) {
		t.Helper()
		onModel(t, false, func(t *testing.T, one *queue) {
			q = one
			q.model.Probe()
			_, head := q.claimHead(t, 16*redis.PartBytes)
			soft, stop := context.WithCancel(t.Context())
			prepare(q, stop)
			record, err = q.Load(soft, q.ctx, head)
			stop()
		})
		return record, q, err
	}
	if got, _, err := load(t, func(q *queue, _ context.CancelFunc) { q.model.Do("DEL", "p:sidecar:inflight:w-1") }); got != nil || err != nil {
		t.Errorf("ended: %d bytes, %v", len(got), err)
	}
	if got, _, err := load(t, func(_ *queue, stop context.CancelFunc) { stop() }); got != nil || err != nil {
		t.Errorf("stopped: %d bytes, %v", len(got), err)
	}
	got, _, err := load(t, func(q *queue, stop context.CancelFunc) {
		q.model.Fail("part", "OOM full")
		time.AfterFunc(time.Minute, stop)
	})
	if got != nil || err != nil {
		t.Errorf("stopped while refused: %d bytes, %v", len(got), err)
	}
	got, _, err = load(t, func(q *queue, _ context.CancelFunc) { q.model.Fail("part", "NOPERM no permission") })
	if got != nil || err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("refused: %d bytes, %v", len(got), err)
	}
	got, q, err := load(t, func(q *queue, _ context.CancelFunc) {
		q.model.Monitor.Failed(io.EOF)
	})
	if len(got) == 0 || err != nil || q.model.Calls("ping") == 0 {
		t.Errorf("after an outage: %d bytes, %v", len(got), err)
	}
}
