package redis

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"
)

// claimOne pushes one record and claims it.
func (e *env) claimOne(run, record string) Claimed {
	e.t.Helper()
	e.push(record)
	claimed := e.claim(run, 1)
	if len(claimed) != 1 {
		e.t.Fatalf("claimed %d records", len(claimed))
	}
	return claimed[0]
}

// done is a successful report of a task of group g.
func done(delivery, task, createdAt string) Report {
	return Report{Delivery: delivery, TaskID: task, GroupID: "g", CreatedAt: createdAt, Success: true}
}

func TestReportVerdicts(t *testing.T) {
	for _, c := range []struct {
		name     string
		prepare  func(e *env) // before the report
		report   Report       // delivery is filled in
		want     Verdict
		counter  string // barrier of g afterwards
		recorded bool   // a completion of t1
		ended    bool   // no longer in flight
	}{
		{"counted", func(e *env) { e.barrier("g", 2) }, done("", "t1", "1.5"), Completed, "1", true, true},
		{"full", func(e *env) { e.barrier("g", 2); e.set(e.o.Prefix+":barrier:g", "2") }, done("", "t1", "1.5"), GroupOver, "2", false, true},
		{"no group", func(*env) {}, Report{TaskID: "t1", Success: true}, CompletedNoGroup, "", false, true},
		{"no group waits", func(*env) {}, done("", "t1", "1.5"), GroupOver, "", false, true},
		{
			"stale counter, no group waits",
			func(e *env) { e.set(e.o.Prefix+":barrier:g", "7") },
			done("", "t1", "1.5"), GroupOver, "7", false, true,
		},
		{
			"the counter holds text",
			func(e *env) { e.barrier("g", 2); e.set(e.o.Prefix+":barrier:g", "many") },
			done("", "t1", "1.5"), BadGroup, "many", false, false,
		},
		{
			"the counter cannot grow",
			func(e *env) { e.barrier("g", 2); e.set(e.o.Prefix+":barrier:g", fmt.Sprint(math.MaxInt64)) },
			done("", "t1", "1.5"), BadGroup, fmt.Sprint(math.MaxInt64), false, false,
		},
		{
			"the expected number is text",
			func(e *env) { e.set(e.o.Prefix+":barrier:g:expected", "two") },
			done("", "t1", "1.5"), BadGroup, "", false, false,
		},
		{
			"the expected number is a list",
			func(e *env) { e.c.RPush(e.ctx, e.o.Prefix+":barrier:g:expected", "2") },
			done("", "t1", "1.5"), BadGroup, "", false, false,
		},
		{
			"the counted set is no set",
			func(e *env) { e.barrier("g", 2); e.set(e.countedSet(0), "x") },
			done("", "t1", "1.5"), BadGroup, "", false, false,
		},
		{
			"yesterday's is none",
			func(e *env) { e.barrier("g", 2); e.set(e.countedSet(1), "x") },
			done("", "t1", "1.5"), BadGroup, "", false, false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				c.prepare(e)
				claimed := e.claimOne(run, "r")
				r := c.report
				r.Delivery = claimed.Delivery
				same(t, "verdict", e.report(run, r), []Verdict{c.want})
				same(t, "counter", e.counter("g"), c.counter)
				same(t, "recorded", len(e.hash(e.o.Prefix+":completions:g")) > 0, c.recorded)
				same(t, "ended", len(e.hash(e.keys.inflight(run))) == 0, c.ended)
				if c.ended {
					same(t, "the same again", e.report(run, r), []Verdict{NotInFlight})
					same(t, "counter after that", e.counter("g"), c.counter)
				}
			})
		})
	}
}

// A bad group is left alone by the dead report that then ends the record, and
// its completions of the wrong type stay what they are.
func TestReportBadGroupThenDead(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 1)
		e.set(e.o.Prefix+":completions:g", "a string")
		claimed := e.claimOne(run, "r")
		r := done(claimed.Delivery, "t1", "1")
		same(t, "verdict", e.report(run, r), []Verdict{BadGroup})
		r.Dead = &DeadLetter{Reason: "group"}
		same(t, "verdict", e.report(run, r), []Verdict{Dead})
		same(t, "counter", e.counter("g"), "")
		same(t, "completions", e.get(e.o.Prefix+":completions:g"), "a string")
		same(t, "in flight", e.hash(e.keys.inflight(run)), map[string]string{})
	})
}

func TestReportCompletionIsGraflows(t *testing.T) {
	at := time.Unix(1732335600, 123456000)
	for _, c := range []struct {
		name   string
		report Report
		want   map[string]any
	}{
		{
			"success",
			Report{TaskID: "t", GroupID: "g", Success: true, ErrorMessage: "ignored", Timestamp: at},
			map[string]any{"task_id": "t", "success": true, "timestamp": 1732335600.123456, "error_message": nil},
		},
		{
			"failure",
			Report{TaskID: `q"\<é>`, GroupID: "g", ErrorMessage: "a\n<b> \xff", Timestamp: at},
			map[string]any{"task_id": `q"\<é>`, "success": false, "timestamp": 1732335600.123456, "error_message": "a\n<b> \ufffd"},
		},
		{
			"dead",
			Report{TaskID: "t", GroupID: "g", Success: true, Timestamp: at, Dead: &DeadLetter{Message: "three deaths"}},
			map[string]any{"task_id": "t", "success": false, "timestamp": 1732335600.123456, "error_message": "three deaths"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.barrier("g", 1)
				c.report.Delivery = e.claimOne(run, "r").Delivery
				e.report(run, c.report)
				var got map[string]any
				text := e.hash(e.o.Prefix + ":completions:g")[c.report.TaskID]
				if err := json.Unmarshal([]byte(text), &got); err != nil {
					t.Fatalf("%v in %q", err, text)
				}
				same(t, "completion", got, c.want)
			})
		})
	}
}

// The last completion tells the producer, once and not early.
func TestReportPublishesWhenFull(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 3)
		sub := e.c.Subscribe(e.ctx, e.o.Prefix+":barrier_done:g")
		defer sub.Close()
		if _, err := sub.Receive(e.ctx); err != nil {
			t.Fatal(err)
		}
		e.push("a", "b", "c", "d")
		claimed := e.claim(run, 4)
		e.report(run, done(claimed[0].Delivery, "a", "1"), done(claimed[1].Delivery, "b", "1"), done(claimed[2].Delivery, "b", "1"))
		same(t, "counter", e.counter("g"), "2")
		e.c.Publish(e.ctx, e.o.Prefix+":barrier_done:g", "marker")
		e.report(run, done(claimed[3].Delivery, "c", "1"))
		for _, want := range []string{"marker", "complete"} {
			m, err := sub.ReceiveMessage(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "message", m.Payload, want)
		}
	})
}

// The traps of a reused group name: stale completions of the last run, and a
// counter that Graflow's own worker moved before us.
func TestReportReusedGroup(t *testing.T) {
	for _, c := range []struct {
		name  string
		stale func(e *env)
		tasks []string
		want  string
	}{
		{"old completions are there", func(e *env) {
			e.c.HSet(e.ctx, e.o.Prefix+":completions:g", "a", "{}", "b", "{}")
		}, []string{"a", "b"}, "2"},
		{"another worker counted the first task", func(e *env) {
			e.c.HSet(e.ctx, e.o.Prefix+":completions:g", "a", "{}")
			e.c.Incr(e.ctx, e.o.Prefix+":barrier:g")
		}, []string{"b"}, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				for _, generation := range []string{"1", "2"} { // the same name twice
					e.barrier("g", 2)
					c.stale(e)
					for _, task := range c.tasks {
						claimed := e.claimOne(run, task+generation)
						same(t, task, e.report(run, done(claimed.Delivery, task, generation)), []Verdict{Completed})
						again := e.claimOne(run, task+generation) // the same dispatch once more
						same(t, task, e.report(run, done(again.Delivery, task, generation)), []Verdict{Duplicate})
					}
					same(t, "counter", e.counter("g"), c.want)
				}
			})
		})
	}
}

// countedSet is the set of tasks of group g that were counted on a day.
func (e *env) countedSet(daysAgo int64) string {
	day := e.c.Time(e.ctx).Val().UnixMilli()/countedKeep.Milliseconds() - daysAgo
	return e.keys.own(fmt.Sprintf("counted:%d:g", day))
}

// What a full barrier has counted is remembered for a day and no longer, also for a group
// name that is used all the time.
func TestReportRemembersADay(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 2)
		report := func(task string) Verdict {
			t.Helper()
			return e.report(run, done(e.claimOne(run, task).Delivery, task, "1"))[0]
		}
		e.c.SAdd(e.ctx, e.countedSet(1), "yesterday\x001")
		e.c.SAdd(e.ctx, e.countedSet(2), "before\x001")
		same(t, "counted yesterday", report("yesterday"), Duplicate)
		same(t, "counted before", report("before"), Completed)
		same(t, "counted today", report("before"), Duplicate)
		if ttl := e.c.PTTL(e.ctx, e.countedSet(0)).Val(); ttl <= 8*countedKeep-time.Hour || ttl > 8*countedKeep {
			t.Errorf("open, TTL %v", ttl)
		}
		same(t, "new", report("new"), Completed)
		same(t, "counter", e.counter("g"), "2")
		if ttl := e.c.PTTL(e.ctx, e.countedSet(0)).Val(); ttl <= countedKeep-time.Hour || ttl > countedKeep {
			t.Errorf("full, TTL %v", ttl)
		}
	})
}

// A barrier that is open for days knows what it has counted on the first one: a dead letter
// that was requeued two days later was once counted twice. One that is open for weeks knows
// it as well, unless it has counted nothing for a week: the sets of more than a week were once
// forgotten.
func TestReportOfAGroupThatTakesDays(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		report := func(task string) Verdict {
			t.Helper()
			return e.report(run, done(e.claimOne(run, task).Delivery, task, "1"))[0]
		}
		for days := int64(1); days <= 14; days++ {
			e.c.Del(e.ctx, e.countedSet(0), e.countedSet(days), e.o.Prefix+":completions:g")
			e.barrier("g", 9)
			same(t, "first", report("a"), Completed)
			e.c.Del(e.ctx, e.countedSet(0)) // as if so many days had passed
			e.c.SAdd(e.ctx, e.countedSet(days), "a\x001")
			want, in := Duplicate, e.countedSet(days)
			if days >= 7 {
				in = e.countedSet(0)
			}
			if days == 14 {
				want = Completed
			}
			same(t, fmt.Sprint("after days ", days), report("a"), want)
			same(t, "another", report("b"), Completed)
			same(t, "the first again", report("a"), Duplicate)
			same(t, "another again", report("b"), Duplicate)
			same(t, "counted", e.c.SIsMember(e.ctx, in, "b\x001").Val(), true)
			same(t, "kept", e.c.PTTL(e.ctx, in).Val() > 7*countedKeep, true)
			e.c.Del(e.ctx, in)
		}
		e.barrier("g", 9) // of two barriers of the name, the later one is continued
		e.set(e.o.Prefix+":barrier:g", "1")
		e.c.SAdd(e.ctx, e.countedSet(3), "later\x001")
		e.c.SAdd(e.ctx, e.countedSet(5), "earlier\x001")
		same(t, "of the later one", report("later"), Duplicate)
		same(t, "of the earlier one", report("earlier"), Completed)
		e.c.Del(e.ctx, e.countedSet(3), e.countedSet(5))

		e.set(e.countedSet(3), "x") // of another program
		e.barrier("g", 9)
		e.set(e.o.Prefix+":barrier:g", "1")
		same(t, "beside a key of another type", report("c"), Completed)
	})
}

// A user of an earlier version may lack the permission for RENAME. A group of that age counts
// on; what it has counted is forgotten when it is two weeks old.
func TestReportOfAnOldGroupWithoutRename(t *testing.T) {
	test := func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 3)
		e.set(e.o.Prefix+":barrier:g", "1")
		e.c.SAdd(e.ctx, e.countedSet(8), "a\x001")
		same(t, "another", e.report(run, done(e.claimOne(run, "b").Delivery, "b", "1"))[0], Completed)
		same(t, "the first again", e.report(run, done(e.claimOne(run, "a").Delivery, "a", "1"))[0], Duplicate)
		same(t, "counter", e.counter("g"), "2")
		same(t, "counted", e.c.SCard(e.ctx, e.countedSet(8)).Val(), int64(2))
		same(t, "kept", e.c.PTTL(e.ctx, e.countedSet(8)).Val() > 7*countedKeep, true)
	}
	t.Run("redis", func(t *testing.T) {
		_, e := alone(t)
		if err := e.c.ACLSetUser(e.ctx, "default", "+@all", "-rename").Err(); err != nil {
			t.Fatal(err)
		}
		test(t, e)
	})
	t.Run("model", func(t *testing.T) {
		e := onModel(t, Options{})
		e.refuse("RENAME", "")
		test(t, e)
	})
}

// Each report of a batch is decided alone.
func TestReportBatch(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 5)
		e.set(e.o.Prefix+":barrier:bad:expected", "x")
		e.push("a", "b", "c", "d", "e", "f")
		c := e.claim(run, 6)
		got := e.report(run,
			done(c[0].Delivery, "a", "1"),
			Report{Delivery: run + ".99", TaskID: "x", GroupID: "g"},
			Report{Delivery: c[1].Delivery, TaskID: "b", GroupID: "bad"},
			Report{Delivery: c[2].Delivery, TaskID: "c"},
			Report{Delivery: c[3].Delivery, TaskID: "d", GroupID: "over"},
			done(c[4].Delivery, "a", "1"),
			done(c[5].Delivery, "f", "1"),
			done(c[5].Delivery, "f", "1"),
		)
		same(t, "verdicts", got, []Verdict{Completed, NotInFlight, BadGroup, CompletedNoGroup, GroupOver, Duplicate, Completed, NotInFlight})
		same(t, "counter", e.counter("g"), "2")
		same(t, "in flight", len(e.hash(e.keys.inflight(run))), 1)
		if v, err := e.Report(e.ctx, run, nil); v != nil || err != nil {
			t.Errorf("empty batch: %v, %v", v, err)
		}
	})
}
