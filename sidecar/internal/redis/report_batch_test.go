package redis

import (
	"fmt"
	"testing"
	"time"
)

// A dead letter has more arguments than another report: those behind it are read from the
// right place.
func TestReportBehindADeadLetter(t *testing.T) {
	both(t, Options{StoreValues: true}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 9)
		e.push("a", "b", "c")
		c := e.claim(run, 3)
		dead := done(c[0].Delivery, "a", "1")
		dead.Dead = &DeadLetter{Reason: "r", Message: "m", Stderr: "s", Attempts: 2, At: time.UnixMilli(5)}
		dead.SessionID = "s"
		last := done(c[2].Delivery, "c", "1")
		last.SessionID, last.Value = "s", []byte("3")
		got := e.report(run, dead, done(c[1].Delivery, "b", "1"), last)
		same(t, "verdicts", got, []Verdict{Dead, Completed, Completed})
		same(t, "counter", e.counter("g"), "3")
		same(t, "value", e.get(e.keys.result("s", "c")), "3")
		same(t, "in flight", e.hash(e.keys.inflight(run)), map[string]string{})
	})
}

// A key of another type ends the report before its first change.
func TestReportWrongType(t *testing.T) {
	for _, key := range []string{"attempts", "attempts:at", "dead", "inflight:"} {
		t.Run(key, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.barrier("g", 2)
				e.push("a", "b")
				c := e.claim(run, 2)
				name := e.keys.own(key)
				if key == "inflight:" {
					name += run
					e.c.Del(e.ctx, name)
				}
				e.set(name, "x")
				dead := done(c[1].Delivery, "b", "1")
				dead.Dead = &DeadLetter{Reason: "r"}
				first := done(c[0].Delivery, "a", "1")
				first.RecordSHA = RecordSHA(c[0].Record)
				_, err := e.Report(e.ctx, run, []Report{first, dead})
				if err == nil {
					t.Error("no error")
				}
				same(t, "counter", e.counter("g"), "")
				same(t, "letters", e.keysUnder(":sidecar:dead:*"), []string{})
			})
		})
	}
}

// The counter of a group is a number that cannot overflow, or the group is bad.
func TestReportCounters(t *testing.T) {
	for _, c := range []struct {
		counter string
		want    Verdict
	}{
		{"0", Completed},
		{"-3", Completed},
		{"99999999999999999", Completed},
		{"999999999999999999", BadGroup},
		{"01", BadGroup},
		{"", BadGroup},
		{"list", BadGroup},
	} {
		t.Run(c.counter, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.barrier("g", 1e18)
				key := e.o.Prefix + ":barrier:g"
				if c.counter == "list" {
					e.c.RPush(e.ctx, key, "1")
				} else {
					e.set(key, c.counter)
				}
				same(t, "verdict", e.report(run, done(e.claimOne(run, "r").Delivery, "t", "1")), []Verdict{c.want})
			})
		})
	}
}

// A full barrier counts nothing more, in one batch as well as later. What was counted is
// remembered for a day: a second copy of a record that ended after that counted again.
func TestReportCountsUpToWhatIsExpected(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 2)
		e.push("a", "b", "c", "d")
		c := e.claim(run, 4)
		dead := done(c[3].Delivery, "d", "1")
		dead.Dead = &DeadLetter{Reason: "r"}
		same(t, "verdicts", e.report(run, done(c[0].Delivery, "a", "1"), done(c[1].Delivery, "b", "1"), done(c[2].Delivery, "c", "1"), dead),
			[]Verdict{Completed, Completed, GroupOver, Dead})
		same(t, "counter", e.counter("g"), "2")
		same(t, "completions", len(e.hash(e.o.Prefix+":completions:g")), 2)
		e.c.Del(e.ctx, e.countedSet(0)) // a day later
		same(t, "again", e.report(run, done(e.claimOne(run, "a").Delivery, "a", "1")), []Verdict{GroupOver})
		same(t, "counter", e.counter("g"), "2")
	})
}

// A batch that counts nothing does not touch the barrier.
func TestReportOfADuplicateLeavesTheBarrier(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.barrier("g", 1)
		same(t, "first", e.report(run, done(e.claimOne(run, "r").Delivery, "t", "1")), []Verdict{Completed})
		e.barrier("g", 1)
		same(t, "again", e.report(run, done(e.claimOne(run, "r").Delivery, "t", "1")), []Verdict{Duplicate})
		same(t, "counter", e.counter("g"), "")
		same(t, "completions", len(e.hash(e.o.Prefix+":completions:g")), 1)
	})
}

// The attempts of a dead letter's record end with it, whether or not the caller has read the
// record, and a letter of the same name is replaced.
func TestADeadLetterEndsAttempts(t *testing.T) {
	for _, c := range []struct {
		sha  string
		left int
	}{{ShaOfRecord, 0}, {RecordSHA([]byte("r")), 0}, {"", 1}} {
		t.Run(c.sha, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.release(run, lost(e.claimOne(run, "r"), false, 3))
				d := e.claim(run, 1)[0].Delivery
				e.c.RPush(e.ctx, e.keys.own("dead:"+d), "of another type")
				same(t, "verdict", e.report(run, Report{Delivery: d, RecordSHA: c.sha, Dead: &DeadLetter{Reason: "x"}}), []Verdict{Dead})
				same(t, "attempts", len(e.hash(e.keys.own("attempts"))), c.left)
				same(t, "their times", e.c.ZCard(e.ctx, e.keys.own("attempts:at")).Val(), c.left)
				same(t, "record", e.hash(e.keys.own("dead:" + d))["raw"], "r")
			})
		})
	}
}

// More deliveries, tasks and values than one command of a script has arguments for.
func TestReportOfALargeBatch(t *testing.T) {
	for _, n := range []int{199, 200, 201, 401} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			e := onMini(t, Options{})
			run := e.run("w")
			e.barrier("g", n)
			e.push(numbered(n)...)
			var batch []Report
			for i, c := range e.claim(run, n) {
				batch = append(batch, done(c.Delivery, fmt.Sprintf("t%d", i), "1"))
			}
			verdicts := map[Verdict]int{}
			for _, v := range e.report(run, batch...) {
				verdicts[v]++
			}
			same(t, "verdicts", verdicts, map[Verdict]int{Completed: n})
			same(t, "counter", e.counter("g"), fmt.Sprint(n))
			same(t, "completions", len(e.hash(e.o.Prefix+":completions:g")), n)
			same(t, "counted", e.c.SCard(e.ctx, e.countedSet(0)).Val(), n)
			same(t, "in flight", len(e.hash(e.keys.inflight(run))), 0)
		})
	}
}

// Large records are not read for the verdicts: each delivery is looked up.
func TestReportAmongMany(t *testing.T) {
	for _, size := range []int{5, 1024, 1025} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.push(numbered(20)...)
				c := e.claim(run, 20)
				report := func(delivery string) Report { return Report{Delivery: delivery, RecordSize: size} }
				got := e.report(run, report(c[7].Delivery), report(run+".99"), report(c[7].Delivery), report(c[3].Delivery))
				same(t, "verdicts", got, []Verdict{CompletedNoGroup, NotInFlight, NotInFlight, CompletedNoGroup})
				same(t, "in flight", len(e.hash(e.keys.inflight(run))), 18)
			})
		})
	}
}

// A dead letter counts as a failure of its group only if its task is known, and a report
// without a value writes no value.
func TestReportOfUnknownTasks(t *testing.T) {
	e := onMini(t, Options{StoreValues: true})
	run := e.run("w")
	e.barrier("g", 2)
	dead := done(e.claimOne(run, "r").Delivery, "", "")
	dead.Dead = &DeadLetter{Reason: "r"}
	same(t, "verdict", e.report(run, dead, done(e.claimOne(run, "s").Delivery, "t", "1")), []Verdict{Dead, Completed})
	same(t, "counter", e.counter("g"), "1")
	same(t, "a key without a name", e.mini.Exists(""), false)

	empty := done(e.claimOne(run, "u").Delivery, "u", "1")
	empty.SessionID, empty.Value = "s", []byte{}
	same(t, "verdict", e.report(run, empty), []Verdict{Completed})
	same(t, "an empty value is a value", e.mini.Exists(e.keys.result("s", "u")), true)
}
