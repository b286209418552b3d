//go:build faults

package faults

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestRedisTakesNoWrites runs tasks while Redis answers but refuses every write. The refusals
// decide nothing: tasks that end meanwhile are reported once Redis takes writes again, and no
// attempt is counted.
func TestRedisTakesNoWrites(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		on, off func(w *world)
	}{
		{
			"read-only", func(w *world) { w.replicaOf("127.0.0.1", "1") }, func(w *world) { w.replicaOf("no", "one") },
		},
		{
			"too few replicas", func(w *world) { w.configure("min-replicas-to-write", "1") },
			func(w *world) { w.configure("min-replicas-to-write", "0") },
		},
		{"a snapshot that failed", (*world).failSnapshot, func(w *world) { w.configure("stop-writes-on-bgsave-error", "no") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.crew(3, setup{})
			w.busy(3)
			w.hurt(c.name)
			c.on(w)
			if w.push(w.fill(record{})) {
				t.Error("a push was accepted: Redis takes writes")
			}
			wait.Pass(8 * time.Second) // longer than a lease
			c.off(w)
			w.goesOn(time.Now())
			w.noRunGivenUp()
			w.verify("Redis takes no writes: " + c.name)
		})
	}
}

func (w *world) replicaOf(host, port string) {
	w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	if err := w.c.ReplicaOf(ctx, host, port).Err(); err != nil {
		w.t.Error(err)
	}
}

// failSnapshot makes a background save of Redis fail, so that Redis refuses writes.
func (w *world) failSnapshot() {
	w.t.Helper()
	w.configure("stop-writes-on-bgsave-error", "yes")
	w.configure("save", "3600 1")
	ctx, cancel := bounded()
	defer cancel()
	dump := filepath.Join(w.c.ConfigGet(ctx, "dir").Val()["dir"], "dump.rdb")
	if err := os.Mkdir(dump, 0o700); err != nil { // cannot be replaced by a file
		w.t.Fatal(err)
	}
	if err := w.c.BgSave(ctx).Err(); err != nil {
		w.t.Fatal(err)
	}
	wait.Within(w.t, 10*time.Second, "a failed background save", func() bool {
		return w.c.InfoMap(ctx, "persistence").Val()["Persistence"]["rdb_last_bgsave_status"] == "err"
	})
}
