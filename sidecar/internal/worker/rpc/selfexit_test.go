package rpc

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

// TestAWorkerThatMayExitIsGivenNoTaskYet: after as many answers as earlier workers had
// given before their exit.
func TestAWorkerThatMayExitIsGivenNoTaskYet(t *testing.T) {
	var q selfExits
	want := func(step string, answers int, pause time.Duration) {
		t.Helper()
		if got := q.delayAfter(answers); got != pause {
			t.Errorf("%s: after %d answers it waits %v, want %v", step, answers, got, pause)
		}
	}
	want("nothing is known", 1, 0)
	q.learn(7, time.Minute)
	want("it was idle", 7, 0)
	q.learn(5, time.Millisecond)
	want("before", 4, 0)
	want("at", 5, minSelfExitDelay)
	want("after", 6, minSelfExitDelay)
	q.learn(3, 100*time.Millisecond)
	want("a slow one", 3, 400*time.Millisecond)
	q.survived(3)
	want("one went on", 5, 0)
	want("one went on", 6, 400*time.Millisecond)
	q.learn(1, 900*time.Millisecond)
	want("no longer than that", 1, selfExitWindow)
}

// pipeTo is a pipe to a worker whose writes fail with err.
type pipeTo struct {
	err    error
	closed bool
}

func (p *pipeTo) Write([]byte) (int, error)        { return 0, p.err }
func (p *pipeTo) Close() error                     { p.closed = true; return nil }
func (p *pipeTo) SetWriteDeadline(time.Time) error { return nil }

// TestABrokenPipeStaysOpen: the pipe stays open until the end of the worker is known,
// since its contents show what the worker has not read.
func TestABrokenPipeStaysOpen(t *testing.T) {
	for _, c := range []struct {
		err    error
		closes bool
	}{{syscall.EPIPE, false}, {errors.New("i/o timeout"), true}} {
		o, p := newOutbox(), &pipeTo{err: c.err}
		o.add(func(dst []byte) []byte { return append(dst, "ping"...) })
		if err := o.write(p, time.Second, nil); !errors.Is(err, c.err) || p.closed != c.closes {
			t.Errorf("%v: ended with %v, closed %t, want %t", c.err, err, p.closed, c.closes)
		}
	}
}
