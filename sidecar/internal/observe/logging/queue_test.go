package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// reader is the other side of a log: it stalls, fails or takes only part of what
// it is given.
type reader struct {
	mu    sync.Mutex
	text  bytes.Buffer
	gate  chan struct{} // nil: it reads; open: it stalls
	err   error
	short int // with err: how many bytes it takes first
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		n := min(r.short, len(p))
		r.text.Write(p[:n])
		return n, r.err
	}
	return r.text.Write(p)
}

func (r *reader) set(f func()) { r.mu.Lock(); defer r.mu.Unlock(); f() }

func (r *reader) read() string { r.mu.Lock(); defer r.mu.Unlock(); return r.text.String() }

func line(i int) string { return fmt.Sprintf("line %04d\n", i) } // 10 bytes

func lines(from, to int) (all string) {
	for i := from; i < to; i++ {
		all += line(i)
	}
	return all
}

func TestQueuePassesEverythingOnInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q := NewQueue(r)
		for i := range 3000 { // several chunks
			fmt.Fprint(q, line(i))
		}
		q.Close(time.Second)
		if r.read() != lines(0, 3000) || q.Dropped() != 0 {
			t.Errorf("%d bytes came, %d lines dropped", len(r.read()), q.Dropped())
		}
		fmt.Fprint(q, "late\n")
		q.Close(time.Second)
		if strings.Contains(r.read(), "late") {
			t.Error("something was written after Close")
		}
	})
}

// TestQueueDropsAndCountsWhatAStalledReaderDoesNotTake: Write returns at once, the
// first lines are kept, and when the reader reads again it is told once.
func TestQueueDropsAndCountsWhatAStalledReaderDoesNotTake(t *testing.T) {
	for name, bound := range map[string]struct{ bytes, lines, kept int }{
		"by bytes": {1000, 1 << 20, 100},
		"by lines": {1 << 20, 70, 70},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate := make(chan struct{})
				r := &reader{gate: gate}
				q := newQueue(r, bound.bytes, bound.lines)
				q.OnDrained(func(n int64) { fmt.Fprintf(q, "dropped %d\n", n) })
				began := time.Now()
				for i := range 250 {
					fmt.Fprint(q, line(i))
				}
				synctest.Wait()
				if waited := time.Since(began); waited != 0 || q.Dropped() != int64(250-bound.kept) {
					t.Errorf("Write waited %v, %d lines dropped", waited, q.Dropped())
				}
				r.set(func() { r.gate = nil })
				close(gate)
				synctest.Wait()
				fmt.Fprint(q, "after\n")
				q.Close(time.Second)
				want := lines(0, bound.kept) + fmt.Sprintf("dropped %d\nafter\n", 250-bound.kept)
				if got := r.read(); got != want {
					t.Errorf("the reader has\n%s\nand not\n%s", got, want)
				}
			})
		})
	}
}

// TestQueueTakesTheLinesOfAWriteThatFit: a dump of all goroutines may be larger
// than the queue.
func TestQueueTakesTheLinesOfAWriteThatFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q := newQueue(r, 95, 100)
		if n, err := fmt.Fprint(q, lines(0, 20)); n != 200 || err != nil {
			t.Errorf("Write gave %d, %v", n, err)
		}
		q.Close(time.Second)
		if r.read() != lines(0, 9) || q.Dropped() != 11 {
			t.Errorf("%q came, %d lines dropped", r.read(), q.Dropped())
		}
	})
}

// TestQueueCloseDoesNotWaitForAStalledReader for longer than it is told to.
func TestQueueCloseDoesNotWaitForAStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q := NewQueue(&reader{gate: gate})
		fmt.Fprint(q, line(0))
		synctest.Wait()
		began := time.Now()
		q.Close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("Close took %v", took)
		}
		close(gate)
	})
}

// TestQueueOnAFullDisk: a write that fails is counted and not repeated, and a line
// that was cut does not swallow the beginning of the next one.
func TestQueueOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{err: syscall.ENOSPC, short: 4}
		q := NewQueue(r)
		var told []int64
		q.OnDrained(func(n int64) { told = append(told, n) })
		fmt.Fprint(q, line(0))
		synctest.Wait()
		r.set(func() { r.short = 0 })
		for i := range 3 {
			fmt.Fprint(q, line(1+i))
			synctest.Wait()
		}
		if q.Dropped() != 4 || len(told) > 0 {
			t.Errorf("%d lines dropped, told %v", q.Dropped(), told)
		}
		r.set(func() { r.err = nil })
		fmt.Fprint(q, line(4))
		synctest.Wait()
		q.Close(time.Second)
		if got := r.read(); got != "line\n"+line(4) || len(told) != 1 || told[0] != 4 {
			t.Errorf("the disk has %q, told %v", got, told)
		}
	})
}

// TestQueueOnANonBlockingDescriptor: another process may have made it so.
func TestQueueOnANonBlockingDescriptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{err: &os.PathError{Op: "write", Err: syscall.EAGAIN}, short: 4}
		q := NewQueue(r)
		fmt.Fprint(q, line(0))
		synctest.Wait()
		r.set(func() { r.err = nil })
		time.Sleep(retryAfter)
		q.Close(time.Second)
		if got := r.read(); got != line(0) || q.Dropped() != 0 {
			t.Errorf("%q came, %d lines dropped", got, q.Dropped())
		}
	})
}

// TestQueueCloseGivesUpOnANonBlockingDescriptor that never has room.
func TestQueueCloseGivesUpOnANonBlockingDescriptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(&reader{err: syscall.EAGAIN})
		fmt.Fprint(q, line(0))
		q.Close(time.Second)
		<-q.done
		if q.Dropped() != 1 {
			t.Errorf("%d lines dropped", q.Dropped())
		}
	})
}

// TestAStalledPipe is the same with a real pipe that is full, and a logger.
func TestAStalledPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	q := NewQueue(w)
	log := New(q, config.LogJSON, slog.LevelInfo, false)
	text := strings.Repeat("x", 1000)
	for range 10_000 { // 10 MB, where the pipe has 64 KiB
		log.Info("a line", "text", text)
	}
	if q.Dropped() == 0 {
		t.Error("nothing was dropped")
	}
	q.Close(10 * time.Millisecond)
	_ = w.Close()
	if _, err := w.Write(newline); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

// TestQueueOnANonBlockingPipe: a full pipe is waited for, and nothing is lost or mixed.
func TestQueueOnANonBlockingPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// As a standard error is that the process has made non-blocking: unknown to os.File.
	if err := syscall.SetNonblock(int(w.Fd()), true); err != nil {
		t.Fatal(err)
	}
	q := NewQueue(w)
	all := lines(0, 9999)
	fmt.Fprint(q, strings.Repeat(all, 3)) // 300 KB
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	q.Close(time.Minute)
	_ = w.Close()
	if got := <-read; got != strings.Repeat(all, 3) || q.Dropped() != 0 {
		t.Errorf("%d bytes came, %d lines dropped", len(got), q.Dropped())
	}
}

func BenchmarkQueue(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for name, q := range map[string]*Queue{"queue": NewQueue(null), "direct": nil} {
		b.Run(name, func(b *testing.B) {
			log := New(null, config.LogJSON, slog.LevelInfo, false)
			if q != nil {
				log = New(q, config.LogJSON, slog.LevelInfo, false)
			}
			b.ReportAllocs()
			for i := range b.N {
				log.Info("worker stderr", "line", "some text of a worker", "slot", i)
			}
		})
		if q != nil {
			q.Close(time.Second)
		}
	}
}
