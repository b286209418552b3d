//go:build faults

package faults

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// suspect pushes a record whose last but one attempt was lost with its sidecar. Its next
// attempt is the last one and must run alone in a sidecar.
func (w *world) suspect(r record) string {
	w.t.Helper()
	r = w.fill(r)
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha1.Sum(text)
	ctx, cancel := bounded()
	defer cancel()
	if err := w.c.HSet(ctx, w.key("sidecar", "attempts"), hex.EncodeToString(sum[:]), "2:run").Err(); err != nil {
		w.t.Fatal(err)
	}
	w.hurt("a record at its last attempt")
	w.pushText(r.TaskID, string(text), false)
	return r.TaskID
}

// setAside adds a record that waits for an idle sidecar and is not due otherwise, as a record
// does that has to run alone and found no idle sidecar.
func (w *world) setAside(r record) {
	w.t.Helper()
	r = w.fill(r)
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha1.Sum(text)
	id, due := "set-aside."+r.TaskID, float64(time.Now().Add(time.Hour).UnixMilli())
	ctx, cancel := bounded()
	defer cancel()
	pipe := w.c.TxPipeline()
	pipe.HSet(ctx, w.key("sidecar", "attempts"), hex.EncodeToString(sum[:]), "2:beside:0")
	pipe.HSet(ctx, w.key("sidecar", "delayed", "records"), id, text)
	pipe.ZAdd(ctx, w.key("sidecar", "delayed"), redis.Z{Score: due, Member: id})
	pipe.ZAdd(ctx, w.key("sidecar", "isolated"), redis.Z{Score: due, Member: id})
	w.note(history.Pushing, r.TaskID, "")
	if _, err := pipe.Exec(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.note(history.Pushed, r.TaskID, "")
	w.mu.Lock()
	w.tasks[r.TaskID].Pushes++
	w.mu.Unlock()
}

// ended reports whether workers have run all of these tasks to their end.
func (w *world) ended(ids ...string) bool {
	events, err := w.hist.Read()
	if err != nil {
		return false // a line is being written
	}
	over := map[string]bool{}
	for _, e := range events {
		over[e.Task] = over[e.Task] || e.What == history.Ended
	}
	for _, id := range ids {
		if !over[id] {
			return false
		}
	}
	return true
}

// openGate makes the file that a task with the Do "gate" or "nest" waits for.
func (w *world) openGate(id string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.marks, id+".open"), nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// TestSuspects pushes records that must run alone (suspects) while one task runs for long and
// another one waits for its nested group. The nested tasks are claimed within a second. The
// suspects run while both tasks go on: beside them where there is only this sidecar, and in
// an idle sidecar where there is one. A suspect that kills the idle sidecar affects no other
// task.
func TestSuspects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		setup setup
		outer string // task id that one of the kinds takes
	}{
		{"one kind of worker", setup{env: append([]string{"MAX_CONCURRENT_TASKS=4", "SIDECAR_MAX_LENT=4"}, eager...)}, "t-outer"},
		{"several kinds of worker", setup{env: eager, kinds: []string{"outer*", "s*", "*"}}, "outer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			busy := w.start(c.setup)
			busy.ready(4)
			outer := w.one(record{TaskID: c.outer, Do: "nest"})
			long := w.one(record{TaskID: "long", Do: "gate"})
			w.runs(outer)
			w.runs(long)

			first := []string{w.suspect(record{TaskID: "s1"}), w.suspect(record{TaskID: "s2"})}
			wait.Within(t, 10*time.Second, "a sidecar that has claimed a suspect", func() bool { return busy.says("set aside") || !w.queued(first[0]) })
			var inner []string
			came := time.Now()
			for range 3 {
				inner = append(inner, w.one(record{}))
			}
			wait.Within(t, 10*time.Second, "the nested tasks", func() bool { return w.ended(inner...) })
			wait.Within(t, 40*time.Second, "the suspects beside what runs", func() bool { return w.ended(first...) })

			next := w.suspect(record{TaskID: "s3"})
			idle := w.start(c.setup)
			wait.Within(t, 30*time.Second, "the suspect in the idle sidecar", func() bool { return w.ended(next) })
			dies := w.suspect(record{TaskID: "s4", Do: "die with sidecar"})
			<-idle.done
			if w.ended(outer) || w.ended(long) {
				t.Error("what ran before did not go on")
			}
			wait.Within(t, 30*time.Second, "a dead letter", func() bool { return len(w.final().Letters) == 1 })
			w.openGate(outer)
			w.openGate(long)
			w.settle(20 * time.Second)
			f, s := w.verify("a record at its last attempt beside busy slots, " + c.name)
			for _, id := range inner {
				if start := s.Of(id).Starts; len(start) != 1 || machine.Between(came, start[0].Time()) > 3*time.Second {
					t.Errorf("%s started at %v, pushed at %v", id, start, came)
				}
			}
			for _, id := range []string{outer, long, dies} {
				if n := len(s.Of(id).Starts); n != 1 {
					t.Errorf("%s ran %d times", id, n)
				}
			}
			if len(f.Letters) != 1 || f.Letters[0].Task != dies || f.Letters[0].Reason != "attempts" || f.Letters[0].Attempts != 3 {
				t.Errorf("dead letters: %+v", f.Letters)
			}
		})
	}
}

// queued reports whether a task's record is in the queue.
func (w *world) queued(id string) bool {
	ctx, cancel := bounded()
	defer cancel()
	for _, text := range w.c.LRange(ctx, w.key("queue"), 0, -1).Val() {
		if strings.Contains(text, `"`+id+`"`) {
			return true
		}
	}
	return false
}
