package claim_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func long(id string, size int) string {
	text := `{"task_id":"` + id + `","pad":"`
	return text + strings.Repeat("x", size-len(text)-2) + `"}`
}

// loading is a Source that returns whole records a while after their claim.
func loading(after time.Duration, records ...string) func(context.Context, task.Task) ([]byte, error) {
	return func(soft context.Context, t task.Task) ([]byte, error) {
		select {
		case <-time.After(after):
		case <-soft.Done():
			return nil, nil
		}
		for _, r := range records {
			if strings.HasPrefix(r, string(t.Record)) {
				return []byte(r), nil
			}
		}
		return nil, nil
	}
}

// TestALargeRecordIsLoadedOnTheSide: other tasks start meanwhile, and no record is
// claimed for the slot that is reserved for it.
func TestALargeRecordIsLoadedOnTheSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		large := long("large", 900)
		src := &source{records: []string{large, record("a"), record("b"), record("c")}, heads: 100, load: loading(time.Minute, large)}
		b := start(t, src, 3)
		time.Sleep(59 * time.Second)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("while the large one is read: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a", "b", "large"}) {
			t.Errorf("when it is read: %v", got)
		}
		b.sink.mu.Lock()
		b.sink.free = 1
		b.sink.mu.Unlock()
		time.Sleep(10 * time.Second)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a", "b", "large", "c"}) {
			t.Errorf("after that: %v", got)
		}
		b.stop(t)
		if len(b.refused) > 0 || b.claimed != 4 {
			t.Errorf("refused %v, claimed %d", b.refused, b.claimed)
		}
	})
}

// TestARecordThatNoWorkerTakesIsNotRead: its head is enough to end it.
func TestARecordThatNoWorkerTakesIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &source{
			records: []string{long("large", 1001), long("second", 501), long("b", 900), long("a", 1000), `{"pad":"` + strings.Repeat("x", 1200) + `"}`, long("whole", 700)},
			kinds:   map[string]int{"second": 1, "b": task.KindUnknown, "": task.KindUnknown}, heads: 100,
			load: func(context.Context, task.Task) ([]byte, error) { return nil, nil },
		}
		b := start(t, src, 9)
		synctest.Wait()
		b.stop(t)
		if want := []string{"too-large", "too-large", "unrouted", "too-large"}; !slices.Equal(b.refused, want) {
			t.Errorf("refused %v, want %v", b.refused, want)
		}
		if want := "the record has 501 bytes, more than the 500 that a worker is given (SIDECAR_MAX_MESSAGE_BYTES)"; b.words[1] != want {
			t.Errorf("in words: %s", b.words[1])
		}
		slices.Sort(b.back)
		if want := []string{"a", "whole"}; !slices.Equal(b.back, want) {
			t.Errorf("given back when they are not ours any more: %v, want %v", b.back, want)
		}
	})
}

func TestARecordThatIsWholeMayBeTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &source{records: []string{long("large", 1001), long("a", 1000)}}, 9)
		synctest.Wait()
		b.stop(t)
		if got := b.sink.tasks(); !slices.Equal(got, []string{"a"}) || !slices.Equal(b.refused, []string{"too-large"}) {
			t.Errorf("passed on %v, refused %v", got, b.refused)
		}
	})
}

// TestALoadAtAStop: the load ends at once, and its record is requeued.
func TestALoadAtAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &source{records: []string{long("a", 900)}, heads: 100, load: loading(time.Hour)}, 9)
		time.Sleep(time.Minute)
		began := time.Now()
		b.stop(t)
		if time.Since(began) > 0 || !slices.Equal(b.back, []string{"a"}) || b.sink.expected != 0 {
			t.Errorf("after %v, given back %v, expected %d", time.Since(began), b.back, b.sink.expected)
		}
	})
}

// TestALoadThatFails: a permanent error ends the loop, as that of a claim does.
func TestALoadThatFails(t *testing.T) {
	refused := errors.New("NOPERM")
	for name, load := range map[string]func(context.Context, task.Task) ([]byte, error){
		"refused": func(context.Context, task.Task) ([]byte, error) { return nil, refused },
		"panics":  func(context.Context, task.Task) ([]byte, error) { panic(refused) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, &source{records: []string{long("a", 900)}, heads: 100, load: load}, 9)
				err := <-b.ended
				b.cancel()
				if err == nil || !strings.Contains(err.Error(), "NOPERM") || b.sink.expected != 0 {
					t.Errorf("ended with %v, expected %d", err, b.sink.expected)
				}
			})
		})
	}
}
