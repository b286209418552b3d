package redis

import (
	"fmt"
	"testing"
	"time"
)

func TestDelay(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("same", "same", "other")
		c := e.claim(run, 3)
		delays := []Delay{
			{Delivery: c[0].Delivery, After: time.Hour, Count: true, Record: c[0].Record},
			{Delivery: c[1].Delivery, After: time.Hour},
			{Delivery: c[2].Delivery, After: 2 * time.Hour},
			{Delivery: run + ".77"},
		}
		got, err := e.Delay(e.ctx, run, delays)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "taken", got, []bool{true, true, true, false})
		got, err = e.Delay(e.ctx, run, delays)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "retry", got, []bool{false, false, false, false})
		same(t, "in flight", e.hash(e.keys.inflight(run)), map[string]string{})
		same(t, "early", e.tick(run).Promoted, 0)

		e.later(61 * time.Minute)
		same(t, "after an hour", e.tick(run).Promoted, 2)
		claimed := e.claim(run, 9)
		same(t, "both of two identical records", records(claimed), []string{"same", "same"})
		same(t, "an attempt is counted", claimed[0].Losses, 1)
		same(t, "by no death", claimed[0].LostWithRun, false)
		e.later(61 * time.Minute)
		same(t, "after two hours", e.tick(run).Promoted, 1)
		same(t, "keys left", e.keysUnder(":sidecar:delayed*"), []string{})
		if got, err := e.Delay(e.ctx, run, nil); got != nil || err != nil {
			t.Errorf("nothing: %v, %v", got, err)
		}
	})
}

// later moves every stored time into the past.
func (e *env) later(d time.Duration) {
	e.t.Helper()
	e.passes(d)
	for _, name := range []string{"delayed", "isolated", "gone", "attempts:at"} {
		key := e.keys.own(name)
		for _, z := range e.c.ZRange(e.ctx, key, 0, -1).Val() {
			if err := e.c.ZIncrBy(e.ctx, key, -float64(d.Milliseconds()), z).Err(); err != nil {
				e.t.Fatal(err)
			}
		}
	}
}

// TestDelayOrderAndBound: due records return in the order of their due times, in
// bounded portions.
func TestDelayOrderAndBound(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		const total = chunkRecords + 40
		var want []string
		var delays []Delay
		for i := range total {
			want = append(want, fmt.Sprintf("%04d", i))
		}
		e.push(want...)
		for i, c := range e.claim(run, total) {
			delays = append(delays, Delay{Delivery: c.Delivery, After: time.Duration(i) * time.Millisecond})
		}
		if _, err := e.Delay(e.ctx, run, delays); err != nil {
			t.Fatal(err)
		}
		e.later(time.Minute)
		same(t, "first tick", e.tick(run).Promoted, chunkRecords)
		same(t, "order", e.queue(), want[:chunkRecords])
		e.claim(run, total)
		same(t, "second tick", e.tick(run).Promoted, 40)
		same(t, "order", e.queue(), want[chunkRecords:])
	})
}

func TestDelayBytes(t *testing.T) {
	both(t, Options{MaxClaimBytes: 10}, func(t *testing.T, e *env) {
		run := e.run("w")
		for i, r := range []string{"123456", "abcdef", "ABCDEF"} {
			c := e.claimOne(run, r)
			if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c.Delivery, After: time.Duration(i) * time.Millisecond}}); err != nil {
				t.Fatal(err)
			}
		}
		e.later(time.Minute)
		same(t, "first tick", e.tick(run).Promoted, 2)
		same(t, "second tick", e.tick(run).Promoted, 1)
	})
}

// The attempts of a delayed record are counted with and without its text.
func TestDelayCounts(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		a, b := e.claimOne(run, "a"), e.claimOne(run, "b")
		if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: a.Delivery, Count: true}, {Delivery: b.Delivery, Count: true, Record: b.Record}}); err != nil {
			t.Fatal(err)
		}
		same(t, "attempts", e.hash(e.keys.own("attempts")), map[string]string{RecordSHA([]byte("a")): "1:delay", RecordSHA([]byte("b")): "1:delay"})
	})
}

// A record without attempts does not have to run alone: it is due at once.
func TestIsolationWithoutAttemptsIsDueAtOnce(t *testing.T) {
	begin := time.UnixMilli(1732335600000)
	e := onModelAt(t, Options{}, func() time.Time { return begin })
	run := e.run("w")
	c := e.claimOne(run, "r")
	if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c.Delivery, After: time.Hour, Isolate: true}}); err != nil {
		t.Fatal(err)
	}
	same(t, "due", int64(e.c.ZScore(e.ctx, e.keys.own("delayed"), c.Delivery).Val()), begin.UnixMilli())
	same(t, "isolated", e.c.ZCard(e.ctx, e.keys.own("isolated")).Val(), 0)
}

// The delay of an isolated record doubles with each shared loss at its last attempt, up to
// ten times and ten minutes.
func TestIsolationDelays(t *testing.T) {
	begin := time.UnixMilli(1732335600000)
	for _, c := range []struct {
		used  string
		after time.Duration
		want  time.Duration
	}{
		{"2:run", time.Second, time.Second},
		{"2:run:3", time.Second, 8 * time.Second},
		{"2:run:10", 100 * time.Millisecond, 102400 * time.Millisecond},
		{"2:run:11", 100 * time.Millisecond, 102400 * time.Millisecond},
		{"2:run:3", 80 * time.Second, 600 * time.Second},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			e := onModelAt(t, Options{}, func() time.Time { return begin })
			run := e.run("w")
			s := e.suspect(run, "r", c.used)
			if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: s.Delivery, After: c.after, Isolate: true, Record: s.Record}}); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"delayed", "isolated"} {
				got := e.c.ZScore(e.ctx, e.keys.own(key), s.Delivery).Val()
				same(t, key, time.Duration(got-float64(begin.UnixMilli()))*time.Millisecond, c.want)
			}
		})
	}
}
