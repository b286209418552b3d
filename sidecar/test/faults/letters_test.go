//go:build faults

package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// oldLetter stores a dead letter of 1970, which sidecars delete.
func (w *world) oldLetter() {
	w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	w.letters++
	id := fmt.Sprintf("old.%d", w.letters)
	pipe := w.c.TxPipeline()
	pipe.HSet(ctx, w.key("sidecar", "dead", id), "raw", "x", "reason", "old")
	pipe.ZAdd(ctx, w.key("sidecar", "dead"), redis.Z{Score: float64(w.letters), Member: id})
	if _, err := pipe.Exec(ctx); err != nil {
		w.t.Fatal(err)
	}
}

// noOldLetter waits until sidecars have deleted the letters of oldLetter.
func (w *world) noOldLetter() {
	w.t.Helper()
	wait.Within(w.t, 20*time.Second, "the end of the old dead letters", func() bool {
		ctx, cancel := bounded()
		defer cancel()
		n, err := w.c.ZCount(ctx, w.key("sidecar", "dead"), "-inf", "1000000").Result()
		left, err2 := w.c.Keys(ctx, w.key("sidecar", "dead", "old.*")).Result()
		return err == nil && err2 == nil && n == 0 && len(left) == 0
	})
}

// Of more dead letters than are kept the newest stay, with several sidecars that write and
// delete them at the same time; nothing else is deleted, and the log tells how many were.
func TestDeadLettersAreBounded(t *testing.T) {
	t.Parallel()
	const most, n = 30, 400
	w := newWorld(t)
	s := setup{env: append([]string{fmt.Sprint("SIDECAR_DEAD_LETTER_MAX=", most)}, eager...)}
	w.crew(3, s)
	ctx, cancel := bounded()
	defer cancel()
	records := make([]any, n)
	for i := range records {
		records[i] = fmt.Sprintf("no JSON %d", i)
	}
	if err := w.c.RPush(ctx, w.key("queue"), records...).Err(); err != nil {
		t.Fatal(err)
	}
	deleted := func() (sum int) {
		for _, s := range w.sidecars {
			for line := range strings.SplitSeq(s.text(), "\n") {
				if _, rest, ok := strings.Cut(line, `"old dead letters deleted"`); ok {
					var many int
					_, rest, _ = strings.Cut(rest, `"above_number":`)
					if _, err := fmt.Sscan(strings.Trim(strings.SplitN(rest, ",", 2)[0], "}"), &many); err != nil {
						t.Fatalf("%v: %s", err, line)
					}
					sum += many
				}
			}
		}
		return sum
	}
	wait.Within(t, 30*time.Second, "dead letters within the bound", func() bool {
		return deleted() == n-most
	})
	w.group(w.work(5, 20)...) // the sidecars still work
	w.settle(20 * time.Second)
	ids := w.c.ZRange(ctx, w.key("sidecar", "dead"), 0, -1).Val()
	var want []string
	for _, id := range ids {
		want = append(want, w.key("sidecar", "dead", id))
	}
	got := w.c.Keys(ctx, w.key("sidecar", "dead", "*")).Val()
	slices.Sort(want)
	slices.Sort(got)
	if len(ids) != most || !slices.Equal(got, want) {
		t.Errorf("%d are kept, want %d: %v, %v", len(ids), most, got, want)
	}
	w.verify("more dead letters than are kept")
}
