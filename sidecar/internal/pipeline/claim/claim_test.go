package claim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	waits   int
	arrived chan struct{}
	fatal   error
	kinds   map[string]int // by task id
	heads   int            // longest record that a claim brings whole; 0 for any
	load    func(soft context.Context, t task.Task) ([]byte, error)
}

func (s *source) Claim(_ context.Context, nonce string, limit int) ([]task.Task, error) {
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
			s.answer = append(s.answer, task.Task{Delivery: fmt.Sprint(nonce, ".", i), Record: []byte(r), Attempt: 1, Kind: s.kinds[info.TaskID]})
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
	s.mu.Unlock()
	select {
	case <-s.arrived:
		return true, nil
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return false, nil
}

func (s *source) Recover(ctx context.Context, err error) error {
	if s.fatal != nil {
		return s.fatal
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
	}
	return nil
}

// sink accepts every task, up to a number.
type sink struct {
	mu       sync.Mutex
	free     int
	expected int
	quiet    bool
	got      []string
}

func (r *sink) Demand(ctx context.Context) (int, error) {
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
	back    []string
	words   []string
	claimed int
	cancel  context.CancelFunc
	ended   chan error
}

// start runs a loop inside a synctest bubble.
func start(t *testing.T, src *source, free int) *bundle {
	t.Helper()
	src.arrived = make(chan struct{}, 1)
	b := &bundle{src: src, sink: &sink{free: free}, ended: make(chan error, 1)}
	n := 0
	loop := &claim.Loop{
		WaitCapacity: func(context.Context) error { return nil }, Tracker: new(claim.Tracker),
		Source: src, Sink: b.sink, MaxAttempts: 3,
		NewNonce: func() string { n++; return fmt.Sprint("n", n) },
		DeadLetter: func(_ task.Task, reason, message string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.refused, b.words = append(b.refused, reason), append(b.words, message)
		},
		Requeue: func(t task.Task) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.back = append(b.back, t.Info.TaskID)
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
		b := start(t, &source{records: []string{record("a"), record("b"), record("c")}}, 2)
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
		time.Sleep(9500 * time.Millisecond)
		src.mu.Lock()
		claims := len(src.nonces)
		src.records = []string{record("late")}
		src.mu.Unlock()
		if claims != 2 {
			t.Errorf("%d claims of an empty queue in 9.5 s, want one at once and one after 5 s", claims)
		}
		src.arrived <- struct{}{}
		synctest.Wait()
		if got := b.sink.tasks(); !slices.Equal(got, []string{"late"}) {
			t.Errorf("a record that arrived was not claimed at once: %v", got)
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
		src.kinds = map[string]int{"a": task.KindUnknown, "b": task.KindNone, "c": task.KindUnknown}
		b := start(t, src, 4)
		synctest.Wait()
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a"}) {
			t.Errorf("passed on %v", got)
		}
		if !slices.Equal(b.refused, []string{"unrouted", "unrouted", "invalid"}) {
			t.Errorf("refused %v", b.refused)
		}
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
