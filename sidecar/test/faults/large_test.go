//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestLargeRecords pushes records of 4 MB to a Redis that drops a client with 1 MB of pending
// output, and records that are longer than the limit for a worker. The former run, the latter
// end as dead letters, and the other records on the queue run as usual.
func TestLargeRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--client-output-buffer-limit", "normal 1mb 1mb 1")
	w.blind = true
	w.obs.close() // Redis would drop its connection, too
	w.crew(2, setup{})
	type large struct {
		id, group, text string
		dead            bool
	}
	var all []large
	for i, size := range []int{4 << 20, 17 << 20, 4 << 20, 17 << 20} {
		l := large{id: fmt.Sprint("large", i), group: fmt.Sprint("lg", i), dead: size > 16<<20}
		l.text = whole(l.id, l.group, fmt.Sprint(i, ".5"), `,"pad":"`+strings.Repeat("x", size)+`"`)
		ctx, cancel := bounded()
		if err := w.c.Set(ctx, w.key("barrier", l.group, "expected"), 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		cancel()
		w.mu.Lock()
		w.tasks[l.id] = &history.Task{ID: l.id, Do: "poison"}
		w.mu.Unlock()
		w.hurt(fmt.Sprintf("a record of %d bytes", size))
		w.pushText(l.id, l.text, false)
		all = append(all, l)
		w.group(w.work(3, 30)...)
	}
	w.settle(40 * time.Second)
	w.configure("client-output-buffer-limit", "normal 0 0 0") // the checks read large values
	for _, l := range all {
		ctx, cancel := bounded()
		text, err := w.c.HGet(ctx, w.key("completions", l.group), l.id).Result()
		cancel()
		var c history.Completion
		if err == nil {
			err = json.Unmarshal([]byte(text), &c)
		}
		if err != nil || c.Success == l.dead {
			w.violation("%s: its group was told %q (%v)", l.id, text, err)
		}
		delete(w.tasks, l.id) // checked above
	}
	letters := 0
	for _, l := range w.final().Letters {
		if l.Reason == "too-large" && (l.Raw == all[1].text || l.Raw == all[3].text) {
			letters++
		}
	}
	if letters != 2 {
		w.violation("%d dead letters hold the record and say that it is too large, want 2", letters)
	}
	for _, s := range w.sidecars {
		if n := strings.Count(s.text(), `"worker ready"`); n != 2 {
			w.violation("%s needed %d workers", s.id, n)
		}
	}
	w.verify("large records")
}

// TestSpoolBesideTasks starts a sidecar whose spool has the outcomes that a stop has left and
// a file that is no spool file. It reports the outcomes once, and runs tasks meanwhile.
func TestSpoolBesideTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
	folder := filepath.Join(w.dir, "spool")
	s := setup{env: []string{"SIDECAR_SHUTDOWN_TIMEOUT=2s", "SIDECAR_SPOOL_DIR=" + folder}}
	first := w.crew(1, s)[0]
	w.killRedisUnder(first)
	wait.Pass(time.Second) // the tasks end
	first.stop()
	broken := filepath.Join(folder, "broken.spool")
	if err := os.WriteFile(broken, []byte("no spool file"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.server.Restart()
	w.crew(1, s)
	w.group(w.work(3, 30)...)
	w.settle(25 * time.Second)
	w.stopAll()
	if left, err := filepath.Glob(folder + "/*"); err != nil || len(left) != 1 || left[0] != broken {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
	_, story := w.verify("a spool beside tasks")
	for id := range w.tasks {
		if n := len(story.Of(id).Starts); n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
}
