package redis

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// numbered returns n records in order.
func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%05d", i)
	}
	return all
}

func TestReap(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, dead := e.run("self"), e.run("dead")
		e.push("a", "b", "c", "d")
		late := e.claim(dead, 2)
		if _, err := e.Wait(e.ctx, dead, 1); err != nil { // c is in the inbox
			t.Fatal(err)
		}
		got := e.die(self, dead, 3)
		same(t, "result", got, ReapResult{Returned: 3})
		same(t, "queue in the old order", e.queue(), []string{"a", "b", "c", "d"})
		same(t, "keys of the dead run", e.keysUnder("*"+dead+"*"), []string{})
		same(t, "a late report", e.report(dead, Report{Delivery: late[0].Delivery}), []Verdict{Stale})

		claimed := e.claim(self, 9)
		same(t, "claimed", records(claimed), []string{"a", "b", "c", "d"})
		for i, want := range []int{1, 1, 0, 0} { // records of the inbox use no attempt
			if claimed[i].Losses != want || claimed[i].LostWithRun != (want > 0) {
				t.Errorf("%s: losses %d, lone run %t", claimed[i].Record, claimed[i].Losses, claimed[i].LostWithRun)
			}
		}
		again, err := e.Reap(e.ctx, self, dead, 3)
		same(t, "again", again, ReapResult{})
		same(t, "error", err, nil)
	})
}

func TestReapRefuses(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, other := e.run("self"), e.run("other")
		e.push("a")
		e.claim(other, 1)
		got, err := e.Reap(e.ctx, self, other, 3)
		same(t, "a run whose lease stands", got, ReapResult{})
		same(t, "error", err, nil)
		same(t, "it goes on", e.Renew(e.ctx, other), nil)
		got, done, err := e.reapChunk(e.ctx, self, other, 3) // it comes back during the reap
		same(t, "a member", []any{got, done, err}, []any{ReapResult{}, true, nil})
		same(t, "in flight", len(e.hash(e.keys.inflight(other))), 1)
		if _, err := e.Reap(e.ctx, self, self, 3); err == nil {
			t.Error("a run reaped itself")
		}
		same(t, "still a member", e.Renew(e.ctx, self), nil)
	})
}

// TestReapWithARecordAlone: the death of a run with several records in flight never
// uses a last attempt; the death of a run with a single one does.
func TestReapWithARecordAlone(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self := e.run("self")
		e.push("poison", "neighbour")
		for death, want := range []int{1, 2, 2, 2} {
			run := e.run("w")
			e.claim(run, 2)
			same(t, fmt.Sprint("shared death ", death), e.die(self, run, 3), ReapResult{Returned: 2})
			claimed := e.claim(self, 2)
			if claimed[0].Losses != want || claimed[1].Losses != want || !claimed[0].LostWithRun {
				t.Fatalf("after death %d: %+v", death, claimed)
			}
			e.release(self, back(claimed...)...)
		}
		run := e.run("w")
		e.claim(run, 1)
		got := e.die(self, run, 3)
		if len(got.Exhausted) != 1 || got.Returned != 0 {
			t.Fatalf("lone death: %+v", got)
		}
		adopted := got.Exhausted[0]
		same(t, "adopted", string(adopted.Record), "poison")
		same(t, "losses", adopted.Losses, 3)
		same(t, "delivery", adopted.Delivery, fmt.Sprintf("%s.%d", self, adopted.Seq))
		same(t, "in flight", e.hash(e.keys.inflight(self)), map[string]string{adopted.Delivery: "poison"})
		same(t, "queue", e.queue(), []string{"neighbour"})
		same(t, "ends as dead", e.report(self, Report{
			Delivery: adopted.Delivery, RecordSHA: RecordSHA(adopted.Record), Dead: &DeadLetter{Attempts: 3},
		}), []Verdict{Dead})
		// The next call has another number, also if the Store or Redis has forgotten the last one.
		for _, lostBy := range []func(){
			func() { e.forget(self) },
			func() { e.c.HDel(e.ctx, e.keys.own("meta:"+self), "adopted") },
		} {
			lostBy()
			again := e.run("w")
			e.c.Del(e.ctx, e.keys.queue(), e.keys.own("attempts"))
			e.push("more")
			e.claim(again, 1)
			next := e.die(self, again, 1).Exhausted
			if len(next) != 1 || next[0].Seq <= adopted.Seq {
				t.Fatalf("adopted %+v after %+v", next, adopted)
			}
			adopted = next[0]
		}
	})
}

// TestReapEndsRepeatedSharedLosses: the number of shared losses is limited. A nested
// task that kills its sidecar is a new record each time, and the task around it is
// never alone.
func TestReapEndsRepeatedSharedLosses(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self := e.run("self")
		e.push("parent")
		for death := 1; ; death++ {
			e.push(fmt.Sprint("nested ", death))
			run := e.run("w")
			e.claim(run, 2)
			got := e.die(self, run, 3)
			e.c.LRem(e.ctx, e.keys.queue(), 0, fmt.Sprint("nested ", death))
			if len(got.Exhausted) > 0 {
				same(t, "deaths", death, 32) // two use attempts, and 30 follow
				same(t, "record", string(got.Exhausted[0].Record), "parent")
				return
			}
			if death > 40 {
				t.Fatal("it goes on for ever")
			}
		}
	})
}

// TestReapFindsExhausted: a record without attempts left that waits for its report as
// dead survives the death of the sidecar that should have written the report.
func TestReapFindsExhausted(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, first := e.run("self"), e.run("first")
		e.push("poison", "x", "y")
		e.release(first, lost(e.claim(first, 1)[0], false, 2))
		c := e.claim(first, 3)
		same(t, "exhausted", e.release(first, lost(c[0], false, 2)), []Released{{Exhausted: true, Losses: 2}})
		got := e.die(self, first, 2)
		same(t, "returned", got.Returned, 2) // shared losses never use the last attempt
		if len(got.Exhausted) != 1 || string(got.Exhausted[0].Record) != "poison" {
			t.Errorf("adopted %+v", got.Exhausted)
		}
	})
}

// TestReapResumes: a reaper that dies between two chunks leaves a run that Tick
// returns. The rest is treated like the first chunk: the loss remains a shared one.
func TestReapResumes(t *testing.T) {
	for _, size := range []int{chunkRecords + 1, 3*chunkRecords - 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			both(t, Options{MaxClaimBytes: 1 << 20}, func(t *testing.T, e *env) {
				other, dead := e.run("other"), e.run("dead")
				want := numbered(size)
				e.push(want...)
				first := e.run("first")
				e.claim(first, size)
				e.die(other, first, 2) // each has one attempt left
				e.claim(dead, size)
				e.expire(dead)
				reaper := e.run("reaper")
				if ok, err := e.retire(e.ctx, reaper, dead, "dead"); err != nil || !ok {
					t.Fatalf("retire: %t, %v", ok, err)
				}
				if _, done, err := e.reapChunk(e.ctx, reaper, dead, 2); err != nil || done {
					t.Fatalf("first chunk: done %t, %v", done, err)
				}
				// The reaper has died. Its own run had nothing in flight.
				tick := e.tick(other)
				same(t, "unfinished", tick.Unfinished, []string{dead})
				got, err := e.Reap(e.ctx, other, dead, 2)
				same(t, "the rest", got, ReapResult{Returned: size - chunkRecords})
				same(t, "error", err, nil)
				same(t, "old order", e.queue(), want)
				same(t, "unfinished afterwards", e.tick(other).Unfinished, []string(nil))
				same(t, "keys of the dead run", e.keysUnder("*"+dead+"*"), []string{})
			})
		})
	}
}

// TestReapResumesAfterRetire: a reaper that dies before the first chunk also leaves
// nothing behind.
func TestReapResumesAfterRetire(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, empty, full := e.run("self"), e.run("empty"), e.run("full")
		e.push("r")
		e.claim(full, 1)
		for _, run := range []string{empty, full} {
			e.expire(run)
			if _, err := e.retire(e.ctx, self, run, "dead"); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "unfinished", e.tick(self).Unfinished, []string{full})
		same(t, "keys of the empty one", e.keysUnder("*"+empty+"*"), []string{})
		got, err := e.Reap(e.ctx, self, full, 3)
		same(t, "reaped", got, ReapResult{Returned: 1})
		same(t, "error", err, nil)
	})
}

// TestReapTwice: two reapers at the same time return each record once.
func TestReapTwice(t *testing.T) {
	const size = 5 * chunkRecords
	e := onRedis(t, Options{})
	dead := e.run("dead")
	want := numbered(size)
	e.push(want...)
	e.claim(dead, size)
	e.expire(dead)
	var wg sync.WaitGroup
	var results [2]ReapResult
	var errs [2]error
	for i := range results {
		self := e.run("self")
		wg.Go(func() { results[i], errs[i] = e.Reap(e.ctx, self, dead, 3) })
	}
	wg.Wait()
	same(t, "errors", errs, [2]error{})
	same(t, "returned together", results[0].Returned+results[1].Returned, size)
	got := e.queue()
	slices.Sort(got)
	same(t, "queue", got, want)
}

// TestReapBytes: a chunk of large records is bounded by bytes.
func TestReapBytes(t *testing.T) {
	both(t, Options{MaxClaimBytes: 12}, func(t *testing.T, e *env) {
		self, dead := e.run("self"), e.run("dead")
		for i := range 3 {
			e.claimOne(dead, fmt.Sprint("record ", i))
		}
		e.expire(dead)
		if _, err := e.retire(e.ctx, self, dead, "dead"); err != nil {
			t.Fatal(err)
		}
		chunk, done, err := e.reapChunk(e.ctx, self, dead, 3)
		same(t, "chunk", chunk, ReapResult{Returned: 2})
		same(t, "done", done, false)
		same(t, "error", err, nil)
	})
}

// Records return in the order of their sequence numbers, then of their ids. A field of
// another form is like number 0.
func TestReapOrder(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, other := e.run("self"), e.run("other")
		for _, d := range []string{"c.10", "a.9", "d.9", "b.9", "e.9", "c.9", "z", "y.1x", "a.1"} {
			e.c.HSet(e.ctx, e.keys.inflight(other), d, d)
		}
		e.expire(other)
		if _, err := e.Reap(e.ctx, self, other, 9); err != nil {
			t.Fatal(err)
		}
		same(t, "queue", e.queue(), []string{"y.1x", "z", "a.1", "a.9", "b.9", "c.9", "d.9", "e.9", "c.10"})
	})
}

// A chunk of a reap is bounded by records and by bytes, and the heads of exhausted records by
// bytes of their own. Records of the inbox come behind those in flight, at no cost.
func TestReapScript(t *testing.T) {
	for _, c := range []struct {
		name                    string
		most, bytes, head, sent int
		inbox, inFlight         int // records of ten bytes
		attempts                int
		ended, held             string
		want                    string // done, requeued, adopted
		queue                   string
		stored                  string // attempts
	}{
		{"all", 9, 1000, 5, 1000, 2, 2, 3, "dead", "2", "1 4 0", "f1 f2 i1 i2", "1:run"},
		{"one in flight", 9, 1000, 5, 1000, 0, 1, 1, "dead", "1", "1 0 1", "", "1:run"},
		{"an exhausted one beside others", 9, 1000, 5, 1000, 0, 1, 1, "dead", "2", "1 0 1", "", "1:run"},
		{"shared at the limit of two", 9, 1000, 5, 1000, 0, 1, 2, "dead", "2", "1 1 0", "f1", "1:run"},
		{"a missing number counts as several", 9, 1000, 5, 1000, 0, 1, 2, "dead", "", "1 1 0", "f1", "1:run"},
		{"a run that left", 9, 1000, 5, 1000, 1, 2, 1, "clean", "2", "1 3 0", "f1 f2 i1", ""},
		{"two records", 2, 1000, 5, 1000, 3, 2, 3, "dead", "2", "0 2 0", "i2 i3", ""},
		{"the inbox and one more", 4, 1000, 5, 1000, 3, 2, 3, "dead", "2", "0 4 0", "f2 i1 i2 i3", "1:run"},
		{"exactly all", 5, 1000, 5, 1000, 3, 2, 3, "dead", "2", "1 5 0", "f1 f2 i1 i2 i3", "1:run"},
		{"20 bytes", 9, 20, 5, 1000, 3, 0, 3, "dead", "2", "0 2 0", "i2 i3", ""},
		{"21 bytes", 9, 21, 5, 1000, 3, 0, 3, "dead", "2", "1 3 0", "i1 i2 i3", ""},
		{"29 bytes in flight", 9, 29, 5, 1000, 0, 4, 3, "dead", "4", "0 3 0", "f2 f3 f4", "1:run"},
		{"10 bytes of heads", 9, 1000, 5, 10, 0, 3, 1, "dead", "3", "0 0 2", "", "1:run"},
		{"11 bytes of heads", 9, 1000, 5, 11, 0, 3, 1, "dead", "3", "1 0 3", "", "1:run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				self, other := e.run("self"), NewRunID("other")
				for i := range c.inbox {
					e.c.RPush(e.ctx, e.keys.inbox(other), fmt.Sprintf("i%-9d", i+1))
				}
				for i := range c.inFlight {
					e.c.HSet(e.ctx, e.keys.inflight(other), fmt.Sprint(other, ".", i+1), fmt.Sprintf("f%-9d", i+1))
				}
				meta, asked := e.keys.own("meta:"+other), e.keys.asked(other)
				e.c.HSet(e.ctx, meta, "ended", c.ended)
				if c.held != "" {
					e.c.HSet(e.ctx, meta, "held", c.held)
				}
				e.set(asked, "x")
				reply, err := e.call(e.ctx, reapScript, self, e.keys.inflight(other), other, c.most, c.bytes, c.attempts, 0, c.head, c.sent).Slice()
				if err != nil {
					t.Fatal(err)
				}
				adopted := (len(reply) - 2) / 3
				same(t, "done, requeued, adopted", fmt.Sprint(reply[0], reply[1], " ", adopted), c.want)
				var queue []string
				for _, r := range e.queue() {
					queue = append(queue, strings.TrimSpace(r))
				}
				same(t, "queue", strings.Join(queue, " "), c.queue)
				for _, v := range e.hash(e.keys.own("attempts")) {
					same(t, "attempts", v, c.stored)
				}
				same(t, "records with attempts", len(e.hash(e.keys.own("attempts"))) > 0, c.stored != "")
				done := reply[0] == int64(1)
				same(t, "keys of the run", e.c.Exists(e.ctx, meta, asked).Val() == 0, done)
				own := e.hash(e.keys.inflight(self))
				same(t, "adopted", len(own), adopted)
				for i := range adopted {
					seq := int64(1)<<40 + int64(i) + 1
					same(t, "sequence number", reply[2+3*i], seq)
					same(t, "head", fmt.Sprint(reply[3+3*i]), fmt.Sprint([]any{10, own[delivery(self, seq)][:c.head]}))
					same(t, "attempts", reply[4+3*i], c.attempts)
				}
				if adopted > 0 {
					same(t, "last number", e.hash(e.keys.own("meta:" + self))["adopted"], fmt.Sprint(int64(1)<<40+int64(adopted)))
				} else {
					same(t, "no number", e.c.HExists(e.ctx, e.keys.own("meta:"+self), "adopted").Val(), false)
				}
			})
		})
	}
}
