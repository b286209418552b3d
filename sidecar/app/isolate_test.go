package app_test

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// suspect pushes a record whose last but one attempt was lost with its sidecar.
func (b *bundle) suspect(j job) {
	b.t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		b.t.Fatal(err)
	}
	sum := sha1.Sum(text)
	if err := b.rdb.HSet(b.t.Context(), b.prefix+":sidecar:attempts", hex.EncodeToString(sum[:]), "2:run").Err(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.rdb.RPush(b.t.Context(), b.prefix+":queue", text).Err(); err != nil {
		b.t.Fatal(err)
	}
}

// TestASuspectHoldsUpNothing: a task runs long, one waits for its nested group, and a
// record that must run alone comes. The nested task is run at once, and the record by
// an idle sidecar, while both go on.
func TestASuspectHoldsUpNothing(t *testing.T) {
	t.Parallel()
	for _, several := range []bool{false, true} {
		name, change := "one kind", func(c *config.Config) { c.Slots, c.Worker.MaxLent = 3, 1 }
		if several {
			name, change = "several kinds", func(c *config.Config) { kinds(c, 2, "outer*", "*") }
		}
		t.Run(name, func(t *testing.T) {
			b := setup(t, change)
			dir := t.TempDir()
			gates := []string{dir + "/outer", dir + "/long"}
			b.push(
				job{TaskID: "outer", SessionID: b.prefix, Do: "wait and gate", Path: gates[0]},
				job{TaskID: "long", SessionID: b.prefix, Do: "gate", Path: gates[1]},
			)
			await(t, "both to start", func() bool { return exists(gates[0]+".started") && exists(gates[1]+".started") })
			b.suspect(job{TaskID: "suspect", SessionID: b.prefix})
			await(t, "the record to be set aside", func() bool { return b.rdb.ZCard(t.Context(), b.prefix+":sidecar:isolated").Val() == 1 })
			b.push(job{TaskID: "inner", SessionID: b.prefix})
			await(t, "the nested task", func() bool { return b.result(b.prefix, "inner") != "" })

			log := &testlog.Buffer{}
			cfg := settings(t, redistest.New(t).URL, b.prefix, log)
			cfg.WorkerID = "idle"
			change(&cfg)
			start(t, cfg, log)
			await(t, "the record", func() bool { return b.result(b.prefix, "suspect") != "" })
			if b.result(b.prefix, "outer")+b.result(b.prefix, "long") != "" {
				t.Error("what ran before did not go on")
			}
			for _, gate := range gates {
				open(t, gate)
			}
			await(t, "the others", func() bool { return b.result(b.prefix, "outer") != "" && b.result(b.prefix, "long") != "" })
			if n := b.rdb.HLen(t.Context(), b.prefix+":sidecar:attempts").Val(); n != 0 {
				t.Errorf("%d records have attempts", n)
			}
		})
	}
}
