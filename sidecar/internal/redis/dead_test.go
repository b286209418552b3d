package redis

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// lostRecord is a record with bytes that no JSON encoder would write.
const lostRecord = "{\"task_id\":\"t1\",\"group_id\":\"g\",\"created_at\":1.50,\"x\":\"\\ud800\"}\n"

// bury claims a record and ends it as a dead letter.
func (e *env) bury(run, record, task, group, createdAt string) string {
	e.t.Helper()
	c := e.claimOne(run, record)
	got := e.report(run, Report{
		Delivery: c.Delivery, TaskID: task, GroupID: group, CreatedAt: createdAt, SessionID: "s", RecordSHA: RecordSHA(c.Record),
		Dead: &DeadLetter{Reason: "attempts", Message: "lost too often", Stderr: "oh", Attempts: 3},
	})
	if got[0] != Dead {
		e.t.Fatalf("verdict %s", got[0])
	}
	return c.Delivery
}

func (e *env) requeue(id string, force bool) fleet.Requeued {
	e.t.Helper()
	got, err := e.Requeue(e.ctx, id, force)
	if err != nil {
		e.t.Fatal(err)
	}
	return got
}

// The group waits for a task whose letter is requeued as if it had never failed.
func TestRequeueTakesTheFailureBack(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 2)
		id := e.bury(run, lostRecord, "t1", "g", "1.50")
		same(t, "counted as failed", e.counter("g"), "1")
		e.push("other")
		same(t, "answer", e.requeue(id, false), fleet.RequeueDone)
		same(t, "queue, byte for byte and last", fmt.Sprintf("%q", e.queue()), fmt.Sprintf("%q", []string{"other", lostRecord}))
		same(t, "counter", e.counter("g"), "0")
		same(t, "completions", e.hash(e.keys.completions("g")), map[string]string{})
		same(t, "letters", e.keysUnder(":sidecar:dead*"), []string{})
		same(t, "again", e.requeue(id, false), fleet.RequeueGone)

		claimed := e.claim(run, 2)
		same(t, "attempts", claimed[1].Losses, 0)
		same(t, "verdict", e.report(run, done(claimed[1].Delivery, "t1", "1.50")), []Verdict{Completed})
		same(t, "counter after success", e.counter("g"), "1")
		same(t, "a second success", e.report(run, done(e.claimOne(run, lostRecord).Delivery, "t1", "1.50")), []Verdict{Duplicate})
	})
}

func TestRequeueOfAGroup(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(e *env)
		after  func(e *env) // the burial
		want   fleet.Requeued
	}{
		{"no group waits", nil, nil, fleet.RequeueGroupOver},
		{"it was the last", func(e *env) { e.barrier("g", 1) }, nil, fleet.RequeueGroupOver},
		{"the barrier is gone", func(e *env) { e.barrier("g", 2) }, func(e *env) {
			e.c.Del(e.ctx, e.keys.barrier("g"), e.keys.expected("g"))
		}, fleet.RequeueGroupOver},
		{
			"a barrier of the same name that knows the task from before", func(e *env) { e.barrier("g", 2) },
			func(e *env) { e.barrier("g", 2) }, fleet.RequeueCounted,
		},
		{"it succeeded elsewhere", func(e *env) {
			e.barrier("g", 3)
			other := e.run("other")
			e.report(other, done(e.claimOne(other, lostRecord).Delivery, "t1", "1.50"))
		}, nil, fleet.RequeueCounted},
		{"a barrier that was made later", nil, func(e *env) { e.barrier("g", 2) }, fleet.RequeueDone},
		{"a counter of another type", func(e *env) { e.barrier("g", 2) }, func(e *env) {
			e.c.Del(e.ctx, e.keys.barrier("g"))
			e.c.LPush(e.ctx, e.keys.barrier("g"), "x")
		}, fleet.RequeueGroupOver},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				if c.before != nil {
					c.before(e)
				}
				id := e.bury(run, lostRecord, "t1", "g", "1.50")
				if c.after != nil {
					c.after(e)
				}
				before, completions := e.c.Dump(e.ctx, e.keys.barrier("g")).Val(), e.hash(e.keys.completions("g"))
				same(t, "answer", e.requeue(id, false), c.want)
				if c.want == fleet.RequeueDone {
					same(t, "queue", e.queue(), []string{lostRecord})
					return
				}
				same(t, "queue", e.queue(), []string{})
				same(t, "forced", e.requeue(id, true), fleet.RequeueDone)
				same(t, "queue after force", e.queue(), []string{lostRecord})
				if e.mini == nil {
					same(t, "the barrier is left alone", e.c.Dump(e.ctx, e.keys.barrier("g")).Val(), before)
				}
				same(t, "the completions too", e.hash(e.keys.completions("g")), completions)
			})
		})
	}
}

// A record that cannot be decoded has a letter too, and goes to the other end
// where records are taken from the right.
func TestRequeueWithoutAGroup(t *testing.T) {
	both(t, Options{QueueRight: true}, func(t *testing.T, e *env) {
		run := e.run("w")
		id := e.bury(run, "\xff\x00 no JSON", "", "", "")
		e.c.ZAdd(e.ctx, e.keys.own("attempts:at"), goredis.Z{Score: 1, Member: RecordSHA([]byte("\xff\x00 no JSON"))})
		e.c.HSet(e.ctx, e.keys.own("attempts"), RecordSHA([]byte("\xff\x00 no JSON")), "3:child")
		e.push("other")
		same(t, "answer", e.requeue(id, false), fleet.RequeueDone)
		same(t, "queue", fmt.Sprintf("%q", e.queue()), fmt.Sprintf("%q", []string{"\xff\x00 no JSON", "other"}))
		same(t, "attempts", e.keysUnder(":sidecar:attempts*"), []string{})
	})
}

func TestDeadLetters(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		var ids []string
		for i := range 3 {
			c := e.claimOne(run, fmt.Sprint("r", i))
			e.report(run, Report{Delivery: c.Delivery, TaskID: fmt.Sprint("t", i), SessionID: "s", Dead: &DeadLetter{
				Reason: "invalid", Message: "m", Stderr: "e", Attempts: 2, At: time.UnixMilli(int64(1000 + i)).UTC(),
			}})
			ids = append([]string{c.Delivery}, ids...)
		}
		list, err := e.DeadLetters(e.ctx, 2)
		same(t, "error", err, nil)
		same(t, "newest two", list, []fleet.DeadLetter{
			{ID: ids[0], TaskID: "t2", SessionID: "s", Reason: "invalid", Message: "m", Stderr: "e", Attempts: 2, At: time.UnixMilli(1002).UTC()},
			{ID: ids[1], TaskID: "t1", SessionID: "s", Reason: "invalid", Message: "m", Stderr: "e", Attempts: 2, At: time.UnixMilli(1001).UTC()},
		})
		all, err := e.DeadLetters(e.ctx, 0)
		same(t, "all", fmt.Sprint(len(all), err), "3 <nil>")
		one, ok, err := e.DeadLetter(e.ctx, ids[2])
		same(t, "one", fmt.Sprint(string(one.Raw), " ", ok, err), "r0 true <nil>")
		_, ok, err = e.DeadLetter(e.ctx, "none.1")
		same(t, "none", fmt.Sprint(ok, err), "false <nil>")
		for _, want := range []bool{true, false} {
			got, err := e.Drop(e.ctx, ids[0])
			same(t, "dropped", fmt.Sprint(got, err), fmt.Sprint(want, nil))
		}
		same(t, "left", len(e.keysUnder(":sidecar:dead:*")), 2)
	})
}

// The parts of a long record grow with it, and shrink where Redis sends no large reply.
func TestADeadLettersRecordIsReadInFewParts(t *testing.T) {
	for _, limit := range []string{"0", "1048576"} {
		t.Run(limit, func(t *testing.T) {
			e := onRedis(t, Options{})
			if err := e.c.ConfigSet(e.ctx, "client-output-buffer-limit", "normal "+limit+" "+limit+" 1").Err(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.c.ConfigSet(e.ctx, "client-output-buffer-limit", "normal 0 0 0") })
			size := 20 << 20
			if testing.Short() {
				size = 4 << 20
			}
			raw := strings.Repeat("0123456789abcdef", size/16)
			id := e.bury(e.run("w"), raw, "", "", "1")
			calls := func() int {
				info, err := e.c.Info(e.ctx, "commandstats").Result()
				if err != nil {
					t.Fatal(err)
				}
				_, rest, _ := strings.Cut(info, "cmdstat_hget:calls=")
				number, _, _ := strings.Cut(rest, ",")
				n, _ := strconv.Atoi(number)
				return n
			}
			before := calls()
			letter, there, err := e.DeadLetter(e.ctx, id)
			if err != nil || !there || string(letter.Raw) != raw {
				t.Fatalf("there %t, %d bytes, %v", there, len(letter.Raw), err)
			}
			if n := calls() - before; limit == "0" && n > fieldCopies+2 {
				t.Errorf("Redis has copied the record %d times", n)
			}
		})
	}
}

// A dead letter is dropped with its entry; one of the two is enough.
func TestDropWhatIsLeft(t *testing.T) {
	for name, lost := range map[string]string{"whole": "", "without a record": "dead:d", "without an entry": "dead"} {
		t.Run(name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				e.c.ZAdd(e.ctx, e.keys.own("dead"), goredis.Z{Score: 1, Member: "d"})
				e.c.HSet(e.ctx, e.keys.own("dead:d"), "raw", "r")
				if lost != "" {
					e.c.Del(e.ctx, e.keys.own(lost))
				}
				for _, want := range []bool{true, false} {
					got, err := e.Drop(e.ctx, "d")
					if err != nil {
						t.Fatal(err)
					}
					same(t, "dropped", got, want)
				}
				same(t, "keys", e.keysUnder(":sidecar:dead*"), []string{})
			})
		})
	}
}
