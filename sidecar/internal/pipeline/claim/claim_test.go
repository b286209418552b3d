package claim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a Source in memory whose replies can be lost.
type source struct {
	mu      sync.Mutex
	records []string
	fail    []error // errors of the next calls of Claim
	lost    bool    // a failing call has claimed all the same
	nonce   string  // of the last claim, and its answer
	answer  []task.Task
	nonces  []string
	took    time.Duration // duration of a claim
	waits   int
	waitErr error // of each wait
	recover int   // calls of Recover
	arrived chan struct{}
	fatal   error
	kinds   map[string]int // by task id
	heads   int            // longest record that a claim brings whole; 0 for any
	load    func(soft context.Context, t task.Task) ([]byte, error)

	untraced               bool
	attempts               map[string]int // by task id; 1 without one
	cutAtStop, fatalAtStop error          // of a wait, or of a pause, that a stop ends
}

func (s *source) Claim(_ context.Context, nonce string, limit int) ([]task.Task, error) {
	time.Sleep(s.took)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nonces = append(s.nonces, nonce)
	if nonce != s.nonce {
		if len(s.fail) > 0 && !s.lost {
			err := s.fail[0]
			s.fail = s.fail[1:]
			return nil, err
		}
		n := min(limit, len(s.records))
		s.nonce, s.answer = nonce, nil
		for i, r := range s.records[:n] {
			info, _ := task.Decode([]byte(r))
			s.answer = append(s.answer, task.Task{Delivery: fmt.Sprint(nonce, ".", i), Record: []byte(r), Attempt: max(s.attempts[info.TaskID], 1), Kind: s.kinds[info.TaskID]})
			if last := &s.answer[i]; s.heads > 0 && len(r) > s.heads {
				last.Record, last.Length = last.Record[:s.heads], len(r)
			}
		}
		s.records = s.records[n:]
	}
	if len(s.fail) > 0 {
		err := s.fail[0]
		s.fail = s.fail[1:]
		return nil, err
	}
	return s.answer, nil
}

func (s *source) Load(soft, _ context.Context, t task.Task) ([]byte, error) {
	s.mu.Lock()
	load := s.load
	s.mu.Unlock()
	return load(soft, t)
}

func (s *source) Wait(ctx context.Context) (bool, error) {
	s.mu.Lock()
	s.waits++
	err := s.waitErr
	s.mu.Unlock()
	if err != nil {
		return false, err
	}
	select {
	case <-s.arrived:
		return true, nil
	case <-time.After(time.Second):
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		return false, s.cutAtStop
	}
	return false, nil
}

func (s *source) Recover(ctx context.Context, err error) error {
	s.mu.Lock()
	s.recover++
	s.mu.Unlock()
	if s.fatal != nil {
		return s.fatal
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		return s.fatalAtStop
	}
	return nil
}

// sink accepts every task, up to a number.
type sink struct {
	mu       sync.Mutex
	free     int
	expected int
	quiet    bool
	asked    int // calls of Demand
	got      []string
	empty    int // calls of Offer without a task
}

func (r *sink) Demand(ctx context.Context) (int, error) {
	r.mu.Lock()
	r.asked++
	r.mu.Unlock()
	for {
		r.mu.Lock()
		free := r.free - r.expected
		if r.quiet {
			r.free = 0 // one last claim
		}
		r.mu.Unlock()
		if free > 0 || ctx.Err() != nil {
			return free, ctx.Err()
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (r *sink) Offer(ts []task.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(ts) == 0 {
		r.empty++
	}
	for _, t := range ts {
		r.got = append(r.got, t.Info.TaskID)
		r.free--
	}
}

func (r *sink) Expect(kind, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind >= 0 {
		r.expected += n
	}
}

func (r *sink) IsQuiet() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.quiet
}

func (r *sink) tasks() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

type bundle struct {
	src     *source
	sink    *sink
	mu      sync.Mutex // guards refused, words and back: large records are loaded concurrently
	refused []string
	kinds   []int // of the refused ones
	traced  []string
	back    []string
	words   []string
	claimed int
	full    atomic.Bool // no capacity for reports
	cancel  context.CancelFunc
	ended   chan error
}

func (b *bundle) waitCapacity(ctx context.Context) error {
	if b.full.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

// start runs a loop inside a synctest bubble.
func start(t *testing.T, src *source, free int) *bundle {
	t.Helper()
	src.arrived = make(chan struct{}, 1)
	b := &bundle{src: src, sink: &sink{free: free}, ended: make(chan error, 1)}
	n := 0
	loop := &claim.Loop{
		WaitCapacity: b.waitCapacity, Tracker: new(claim.Tracker),
		Source: src, Sink: b.sink, MaxAttempts: 3,
		NewNonce: func() string { n++; return fmt.Sprint("n", n) },
		DeadLetter: func(t task.Task, reason, message string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused, b.words, b.kinds = append(b.refused, reason), append(b.words, message), append(b.kinds, t.Kind)
		},
		Requeue: func(t task.Task) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.back = append(b.back, t.Info.TaskID)
		},
		Trace: func(t *task.Task) task.Span {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.traced = append(b.traced, t.Info.TaskID)
			return nil
		},
		MaxRecordBytes: func(kind int) int { return 1000 - 500*max(kind, 0) },
		OnClaimed:      func(ts []task.Task) { b.claimed += len(ts) },
		OnProgress:     func() {},
		KindOf: func(taskID string) int {
			if taskID == "a" {
				return 0
			}
			return task.KindNone
		},
		Check: func(record []byte) error {
			if bytes.Contains(record, []byte("too deep")) {
				return errors.New("too deep")
			}
			return nil
		},
	}
	if src.untraced {
		loop.Trace = nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.cancel = cancel
	go func() { b.ended <- loop.Run(ctx, t.Context()) }()
	return b
}

func (b *bundle) stop(t *testing.T) {
	t.Helper()
	b.cancel()
	if err := <-b.ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func record(id string) string { return fmt.Sprintf(`{"task_id":%q}`, id) }

func TestClaimsNoMoreThanCanStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &source{records: []string{record("a"), record("b"), record("c")}, untraced: true}, 2)
		time.Sleep(10 * time.Second)
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("claimed %v", got)
		}
	})
}

func TestWaitsWithoutAskingWhileTheQueueIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		b := start(t, src, 4)
		for at, want := range []int{1, 1, 1, 1, 1, 2, 2, 2, 2, 2} {
			time.Sleep(500 * time.Millisecond)
			src.mu.Lock()
			if claims := len(src.nonces); claims != want {
				t.Errorf("%d claims of an empty queue after %d.5 s, want one at once and one after 5 s", claims, at)
			}
			src.mu.Unlock()
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(time.Millisecond) // into a wait
		src.mu.Lock()
		src.records = []string{record("late")}
		src.mu.Unlock()
		src.arrived <- struct{}{}
		synctest.Wait()
		if got := b.sink.tasks(); !slices.Equal(got, []string{"late"}) || b.sink.empty > 0 {
			t.Errorf("a record that arrived was not claimed at once: %v; %d empty offers", got, b.sink.empty)
		}
		b.stop(t)
	})
}

func TestAClaimWhoseReplyWasLostIsRepeatedWithItsNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("connection reset")
		src := &source{records: []string{record("a")}, fail: []error{lost, lost}, lost: true}
		b := start(t, src, 4)
		time.Sleep(time.Second)
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("claimed %v", got)
		}
		if n := src.nonces; len(n) < 3 || n[0] != n[1] || n[1] != n[2] {
			t.Errorf("nonces %v", n)
		}
	})
}

func TestRecordsThatMustNotRunAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{records: []string{"poison", record("good"), `{"task_id":""}`, record("too deep")}}
		b := start(t, src, 4)
		synctest.Wait()
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"good"}) {
			t.Errorf("passed on %v", got)
		}
		if !slices.Equal(b.refused, []string{"invalid", "invalid", "invalid"}) || b.claimed != 4 {
			t.Errorf("refused %v of %d", b.refused, b.claimed)
		}
	})
}

// TestKindsThatAreNone: Redis could not decode the names of some tasks, and others
// match no kind.
func TestKindsThatAreNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{records: []string{record("a"), record("b"), record("c"), "poison"}}
		src.kinds = map[string]int{"a": task.KindUnknown, "b": task.KindNone, "c": task.KindUnknown, "": task.KindUnknown}
		b := start(t, src, 4)
		synctest.Wait()
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("passed on %v", got)
		}
		if !slices.Equal(b.refused, []string{"unrouted", "unrouted", "invalid"}) || b.kinds[2] != task.KindUnknown {
			t.Errorf("refused %v of the kinds %v", b.refused, b.kinds)
		}
		if !slices.Equal(b.traced, []string{"a", "b", "c", ""}) {
			t.Errorf("traced %q", b.traced)
		}
	})
}

// TestARecordHasSoManyAttempts: the last one runs, and one more is refused.
func TestARecordHasSoManyAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{records: []string{record("last"), record("over")}, attempts: map[string]int{"last": 3, "over": 4}}
		b := start(t, src, 4)
		synctest.Wait()
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"last"}) || !slices.Equal(b.refused, []string{"attempts"}) {
			t.Errorf("passed on %v, refused %v", got, b.refused)
		}
	})
}

// TestALoopThatFoundRecordsClaimsAgain: it waits after a claim that found none.
func TestALoopThatFoundRecordsClaimsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &source{records: []string{record("a"), record("b")}}, 4)
		synctest.Wait()
		if len(b.src.nonces) != 2 || b.src.waits != 1 {
			t.Errorf("%d claims and %d waits", len(b.src.nonces), b.src.waits)
		}
		b.stop(t)
	})
}

// TestAWaitThatFails: the loop pauses, and does not take the queue for empty.
func TestAWaitThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &source{waitErr: errors.New("connection reset")}, 4)
		time.Sleep(950 * time.Millisecond)
		synctest.Wait()
		if b.src.recover != 10 || b.src.waits != 10 || len(b.src.nonces) != 10 {
			t.Errorf("%d claims, %d waits and %d pauses in a second", len(b.src.nonces), b.src.waits, b.src.recover)
		}
		b.stop(t)
	})
}

// TestAfterAStop: the reply of a claim is read, and nothing else is asked. What fails then is
// no failure of the sidecar.
func TestAfterAStop(t *testing.T) {
	refused := errors.New("NOAUTH")
	for name, c := range map[string]struct {
		src  *source
		want []string // tasks
	}{
		"a claim":                  {&source{records: []string{record("a")}}, []string{"a"}},
		"a claim of nothing":       {&source{}, nil},
		"a claim that fails":       {&source{fail: slices.Repeat([]error{refused}, 10), fatal: refused}, nil},
		"a claim that is repeated": {&source{fail: slices.Repeat([]error{errors.New("reset")}, 10)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.src.took = time.Second
				b := start(t, c.src, 4)
				time.Sleep(500 * time.Millisecond)
				b.stop(t)
				if got := b.sink.tasks(); !slices.Equal(got, c.want) || len(c.src.nonces) != 1 || c.src.waits > 0 || c.src.recover > 0 {
					t.Errorf("passed on %v, %d claims, %d waits, %d pauses", got, len(c.src.nonces), c.src.waits, c.src.recover)
				}
			})
		})
	}
	t.Run("a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &source{waitErr: refused}, 4)
			b.src.fatalAtStop = refused
			time.Sleep(50 * time.Millisecond)
			b.stop(t)
		})
	})
	t.Run("no capacity", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &source{arrived: make(chan struct{}, 1)}, 0)
			b.full.Store(true)
			b.sink.mu.Lock()
			b.sink.free = 4
			b.sink.mu.Unlock()
			time.Sleep(1500 * time.Millisecond)
			before := b.sink.asked
			b.stop(t)
			if b.sink.asked != before {
				t.Error("slots were asked for")
			}
		})
	})
	t.Run("a wait that fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := start(t, &source{}, 4)
			time.Sleep(500 * time.Millisecond)
			b.src.mu.Lock()
			b.src.cutAtStop = refused
			b.src.mu.Unlock()
			b.stop(t)
			if b.src.recover > 0 {
				t.Errorf("%d pauses", b.src.recover)
			}
		})
	})
}

func TestARefusalForGoodEndsTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fatal := errors.New("NOAUTH")
		b := start(t, &source{fail: []error{errors.New("x")}, fatal: fatal}, 1)
		if err := <-b.ended; !errors.Is(err, fatal) {
			t.Errorf("ended with %v", err)
		}
		b.cancel()
	})
}

func TestAQuietSinkIsAskedAndNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{}
		b := start(t, src, 0)
		b.sink.mu.Lock()
		b.sink.free, b.sink.quiet = 1, true
		b.sink.mu.Unlock()
		time.Sleep(5 * time.Second)
		b.stop(t)
		if src.waits != 0 || len(src.nonces) != 1 {
			t.Errorf("%d claims and %d waits while quiet", len(src.nonces), src.waits)
		}
	})
}

func TestAStopEndsEveryWait(t *testing.T) {
	for name, src := range map[string]*source{
		"empty queue": {},
		"no capacity": {records: []string{record("a")}},
		"redis away":  {fail: slices.Repeat([]error{errors.New("refused")}, 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				free := 1
				if name == "no capacity" {
					free = 0
				}
				b := start(t, src, free)
				time.Sleep(2500 * time.Millisecond)
				began := time.Now()
				b.stop(t)
				if d := time.Since(began); d > 0 {
					t.Errorf("took %v", d)
				}
			})
		})
	}
}
