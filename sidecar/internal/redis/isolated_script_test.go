package redis

import (
	"fmt"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

// An idle sidecar takes the earliest isolated record for which it has a slot, among the first
// sixteen, until it has read a number of bytes.
func TestTakeIsolatedScript(t *testing.T) {
	record := func(id string) string { return fmt.Sprintf(`{"task_id":"%s"%*s}`, id, 20-14-len(id), "") } // 20 bytes
	for _, c := range []struct {
		name    string
		ids     []string // of the isolated records
		inbox   bool     // a record is there
		turn    any      // stored
		call    int      // turn
		bytes   int
		kinds   []any // patterns and free slots
		took    int64
		want    string // the record that is taken
		dropped int    // entries without a record
	}{
		{"without kinds", []string{"x", "y"}, false, nil, 1, 1000, []any{""}, 1, "x", 0},
		{"none", nil, false, nil, 1, 1000, []any{""}, 0, "", 0},
		{"beside a record in the inbox", []string{"x"}, true, nil, 1, 1000, []any{""}, 1, "", 0},
		{"a late call", []string{"x"}, false, 3, 3, 1000, []any{""}, 0, "", 0},
		{"the next call", []string{"x"}, false, 3, 4, 1000, []any{""}, 1, "x", 0},
		{"a slot of the kind", []string{"x", "b", "a"}, false, nil, 1, 1000, []any{"a*\nb*", 1, 0}, 1, "a", 0},
		{"a slot of the other kind", []string{"x", "b", "a"}, false, nil, 1, 1000, []any{"a*\nb*", 0, 1}, 1, "b", 0},
		{"no slot", []string{"x", "b", "a"}, false, nil, 1, 1000, []any{"a*\nb*", 0, 0}, 0, "", 0},
		{"the sixteenth", append(make([]string, 15), "a"), false, nil, 1, 1000, []any{"a*", 1}, 1, "a", 15},
		{"the seventeenth", append(make([]string, 16), "a"), false, nil, 1, 1000, []any{"a*", 1}, 0, "", 16},
		{"behind 19 bytes", []string{"x", "a"}, false, nil, 1, 21, []any{"a*", 1}, 1, "a", 0},
		{"behind 20 bytes", []string{"x", "a"}, false, nil, 1, 20, []any{"a*", 1}, 0, "", 0},
		{"behind 40 bytes", []string{"x", "y", "a"}, false, nil, 1, 40, []any{"a*", 1}, 0, "", 0},
		{"behind what is not there", []string{"", "x"}, false, nil, 1, 1, []any{""}, 1, "x", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				for i, id := range c.ids {
					d := fmt.Sprintf("d.%02d", i)
					e.c.ZAdd(e.ctx, e.keys.own("isolated"), goredis.Z{Score: float64(i), Member: d})
					if id == "" {
						continue
					}
					e.c.ZAdd(e.ctx, e.keys.own("delayed"), goredis.Z{Score: float64(i), Member: d})
					e.c.HSet(e.ctx, e.keys.own("delayed:records"), d, record(id))
					e.c.HSet(e.ctx, e.keys.own("attempts"), RecordSHA([]byte(record(id))), "2:beside:1:u")
				}
				if c.inbox {
					e.c.RPush(e.ctx, e.keys.inbox(run), "before")
				}
				if c.turn != nil {
					e.c.HSet(e.ctx, e.keys.own("meta:"+run), "turn", c.turn)
				}
				took, err := e.call(e.ctx, takeIsolatedScript, run, e.keys.inbox(run), append([]any{c.call, c.bytes}, c.kinds...)...).Int64()
				if err != nil {
					t.Fatal(err)
				}
				same(t, "took", took, c.took)
				want, left := []string{}, len(c.ids)-c.dropped
				switch {
				case c.inbox:
					want = []string{"before"}
				case c.want != "":
					want = []string{record(c.want)}
					left--
					same(t, "attempts", e.hash(e.keys.own("attempts"))[RecordSHA([]byte(want[0]))], "2:run:1:u")
				}
				same(t, "inbox", e.list(e.keys.inbox(run)), want)
				same(t, "isolated", e.c.ZCard(e.ctx, e.keys.own("isolated")).Val(), left)
				same(t, "records", e.c.HLen(e.ctx, e.keys.own("delayed:records")).Val(), e.c.ZCard(e.ctx, e.keys.own("delayed")).Val())
			})
		})
	}
}

// A record whose attempts Redis has forgotten is taken without new ones.
func TestTakeIsolatedWithoutAttempts(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.c.ZAdd(e.ctx, e.keys.own("isolated"), goredis.Z{Score: 1, Member: "d"})
		e.c.ZAdd(e.ctx, e.keys.own("delayed"), goredis.Z{Score: 1, Member: "d"})
		e.c.HSet(e.ctx, e.keys.own("delayed:records"), "d", "r")
		took, err := e.call(e.ctx, takeIsolatedScript, run, e.keys.inbox(run), 1, 1000, "").Int64()
		same(t, "took", []any{took, err}, []any{int64(1), nil})
		same(t, "inbox", e.list(e.keys.inbox(run)), []string{"r"})
		same(t, "attempts", e.keysUnder(":sidecar:attempts*"), []string{})
	})
}

// Reconcile returns deliveries that the run does not know and has seen, the latest first, in
// bounded chunks.
func TestReconcileScript(t *testing.T) {
	for _, c := range []struct {
		name        string
		most, bytes int
		seen        int64
		known       []string
		want        string // returned and done
		queue       []string
	}{
		{"all", 9, 1000, 3, nil, "3 1", []string{"r1", "r2", "r3"}},
		{"what is known", 9, 1000, 3, []string{"1", "3"}, "1 1", []string{"r2"}},
		{"what is not seen yet", 9, 1000, 2, nil, "2 1", []string{"r1", "r2"}},
		{"two records", 2, 1000, 3, nil, "2 0", []string{"r2", "r3"}},
		{"three records", 3, 1000, 3, nil, "3 1", []string{"r1", "r2", "r3"}},
		{"three bytes", 9, 3, 3, nil, "2 0", []string{"r2", "r3"}},
		{"four bytes", 9, 4, 3, nil, "2 0", []string{"r2", "r3"}},
		{"five bytes", 9, 5, 3, nil, "3 1", []string{"r1", "r2", "r3"}},
		{"adopted records", 9, 1000, 0, []string{"1099511627777"}, "1 1", []string{"r1099511627778"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				seqs := []int64{1, 2, 3}
				if c.seen == 0 {
					seqs = []int64{1, 1 << 40, 1<<40 + 1, 1<<40 + 2}
				}
				for _, seq := range seqs {
					e.c.HSet(e.ctx, e.keys.inflight(run), delivery(run, seq), fmt.Sprint("r", seq))
				}
				args := []any{c.most, c.bytes, c.seen}
				for _, k := range c.known {
					args = append(args, run+"."+k)
				}
				reply, err := e.call(e.ctx, reconcileScript, run, e.keys.inflight(run), args...).Slice()
				if err != nil {
					t.Fatal(err)
				}
				same(t, "returned, done", fmt.Sprint(reply...), c.want)
				same(t, "queue", e.queue(), c.queue)
				same(t, "in flight", len(e.hash(e.keys.inflight(run))), len(seqs)-len(c.queue))
			})
		})
	}
}
