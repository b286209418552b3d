package redis

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// A value is stored with the report that counts, and only with it.
func TestReportValue(t *testing.T) {
	for _, c := range []struct {
		name    string
		store   bool
		prepare func(e *env)
		report  Report
		late    bool
		want    string
	}{
		{"counted", true, func(e *env) { e.barrier("g", 1) }, done("", "t", "1"), false, `{"a":1}`},
		{"no group", true, func(*env) {}, Report{TaskID: "t"}, false, `{"a":1}`},
		{"late", true, func(e *env) { e.barrier("g", 1) }, done("", "t", "1"), true, ""},
		{"no group waits", true, func(*env) {}, done("", "t", "1"), false, ""},
		{"switched off", false, func(e *env) { e.barrier("g", 1) }, done("", "t", "1"), false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{StoreValues: c.store}, func(t *testing.T, e *env) {
				run := e.run("w")
				c.prepare(e)
				r := c.report
				r.SessionID, r.Value = e.o.Prefix, []byte(`{"a":1}`)
				r.Delivery = e.claimOne(run, "r").Delivery
				if c.late {
					e.die(e.run("o"), run, 3)
				}
				e.report(run, r)
				key := e.keys.result(e.o.Prefix, "t")
				t.Cleanup(func() { e.c.Del(e.ctx, key) })
				same(t, "value", e.get(key), c.want)
			})
		})
	}
}

// The result of a task without a session is under the prefix and expires; Graflow's own
// results do neither. A later result starts the time anew.
func TestReportValueWithoutASession(t *testing.T) {
	for _, c := range []struct {
		name string
		ttl  time.Duration
	}{{"expires", 24 * time.Hour}, {"stays", 0}} {
		t.Run(c.name, func(t *testing.T) {
			// Without StoreValues, as in a Cluster: the key has the hash tag of the prefix.
			both(t, Options{ResultTTL: c.ttl}, func(t *testing.T, e *env) {
				other, err := New(goredis.NewClient(e.c.Options()), Options{Prefix: e.o.Prefix + "-b"})
				if err != nil {
					t.Fatal(err)
				}
				defer other.Close()
				key := e.o.Prefix + ":sidecar:result:daily"
				for _, value := range []string{`"a"`, `"b"`} {
					run := e.run("w")
					r := Report{TaskID: "daily", Value: []byte(value), Delivery: e.claimOne(run, "r").Delivery}
					same(t, "verdicts", e.report(run, r), []Verdict{CompletedNoGroup})
					same(t, "value", e.get(key), value)
					left := e.c.PTTL(e.ctx, key).Val()
					if c.ttl == 0 && left != -1 || c.ttl > 0 && (left <= c.ttl-testTimeout || left > c.ttl) {
						t.Errorf("it expires in %v, want %v", left, c.ttl)
					}
					got, there, err := e.Result(e.ctx, "", "daily")
					if err != nil || !there || string(got) != value {
						t.Errorf("result %s, %v, %v", got, there, err)
					}
					if _, there, err := other.Result(e.ctx, "", "daily"); there || err != nil {
						t.Errorf("under another prefix: %v, %v", there, err)
					}
					e.c.Expire(e.ctx, key, testTimeout)
				}
			})
		})
	}
}

// In one batch, only the results without a session expire.
func TestReportOfBothSortsOfResults(t *testing.T) {
	both(t, Options{StoreValues: true, ResultTTL: time.Hour}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("a", "b", "c")
		c := e.claim(run, 3)
		same(t, "verdicts", e.report(run,
			Report{Delivery: c[0].Delivery, TaskID: "a", SessionID: e.o.Prefix, Value: []byte("1")},
			Report{Delivery: c[1].Delivery, TaskID: "b", Value: []byte("2")},
			Report{Delivery: c[2].Delivery, TaskID: "c", SessionID: e.o.Prefix, Value: []byte("3")},
		), []Verdict{CompletedNoGroup, CompletedNoGroup, CompletedNoGroup})
		for i, key := range []string{e.keys.result(e.o.Prefix, "a"), e.keys.result("", "b"), e.keys.result(e.o.Prefix, "c")} {
			t.Cleanup(func() { e.c.Del(context.Background(), key) })
			same(t, "value", e.get(key), strconv.Itoa(i+1))
			same(t, "expires", e.c.PTTL(e.ctx, key).Val() > 0, i == 1)
		}
	})
}

func TestReportDead(t *testing.T) {
	at := time.UnixMilli(1732335600123)
	for _, record := range poison {
		both(t, Options{}, func(t *testing.T, e *env) {
			run := e.run("w")
			claimed := e.claimOne(run, record)
			r := Report{Delivery: claimed.Delivery, Dead: &DeadLetter{
				Reason: "invalid", Message: "m\x00", Stderr: "tail\xff", Attempts: 2, At: at,
			}}
			same(t, "verdict", e.report(run, r), []Verdict{Dead})
			same(t, "again", e.report(run, r), []Verdict{NotInFlight})
			list := e.c.ZRangeWithScores(e.ctx, e.keys.own("dead"), 0, -1).Val()
			if len(list) != 1 || list[0].Member != claimed.Delivery || int64(list[0].Score) != at.UnixMilli() {
				t.Errorf("list %+v", list)
			}
			same(t, "entry", e.hash(e.keys.own("dead:"+claimed.Delivery)), map[string]string{
				"raw": record, "reason": "invalid", "message": "m\x00", "stderr": "tail\xff", "attempts": "2",
				"time": "2024-11-23T04:20:00.123Z", "task_id": "", "group_id": "", "session_id": "", "counted_as": "\x00",
			})
			same(t, "in flight", e.hash(e.keys.inflight(run)), map[string]string{})
		})
	}
}

// A dead letter of a group is a failed completion, counted like any other.
func TestReportDeadInGroup(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 2)
		first, second := e.claimOne(run, "r"), e.claimOne(run, "r")
		r := done(first.Delivery, "t", "1")
		r.SessionID = "s"
		r.Dead = &DeadLetter{Reason: "attempts", Message: "it kills its worker"}
		same(t, "verdict", e.report(run, r), []Verdict{Dead})
		same(t, "counter", e.counter("g"), "1")
		if text := e.hash(e.o.Prefix + ":completions:g")["t"]; !strings.Contains(text, `"success":false`) || !strings.Contains(text, "it kills its worker") {
			t.Errorf("completion %s", text)
		}
		r.Delivery = second.Delivery
		same(t, "the same task once more", e.report(run, r), []Verdict{Dead})
		same(t, "counter", e.counter("g"), "1")
		entry := e.hash(e.keys.own("dead:" + second.Delivery))
		same(t, "ids", []string{entry["task_id"], entry["group_id"], entry["session_id"]}, []string{"t", "g", "s"})
	})
}

// The end of a record is the end of its attempts.
func TestReportClearsAttempts(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("w"), e.run("o")
		e.push("r")
		e.claim(run, 1)
		e.die(other, run, 3)
		claimed := e.claim(other, 1)
		if len(claimed) != 1 || claimed[0].Losses != 1 {
			t.Fatalf("claimed %+v", claimed)
		}
		same(t, "attempts", len(e.hash(e.keys.own("attempts"))), 1)
		e.report(other, Report{Delivery: claimed[0].Delivery, RecordSHA: RecordSHA(claimed[0].Record)})
		same(t, "keys left", e.keysUnder(":sidecar:attempts*"), []string{})
	})
}
