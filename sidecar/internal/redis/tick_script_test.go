package redis

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// ticker calls tick.lua with bounds of its own, by a clock that the test sets.
type ticker struct {
	*env
	ms   atomic.Int64 // Redis' clock
	args map[int]any  // by ARGV
}

const tickerBegin = int64(1732335600000)

func newTicker(t *testing.T) *ticker {
	tick := &ticker{args: map[int]any{
		5: "", 6: "", 7: 256, 8: 4 << 20, 9: 3600000, 10: 86400000, 11: 100,
		12: 500, 13: 1500, 14: 1501, 15: 1000, 16: 8, 17: "", 18: 0, 19: 1000, 20: 60, 21: 1, 22: 0, 23: 0,
	}}
	tick.ms.Store(tickerBegin)
	tick.env = onModelAt(t, Options{}, func() time.Time { return time.UnixMilli(tick.ms.Load()) })
	return tick
}

// at sets the clock to ms after the beginning and ticks. It returns the fields of the reply.
func (k *ticker) at(run string, ms int64) []any {
	k.t.Helper()
	k.ms.Store(tickerBegin + ms)
	var args []any
	for i := 5; i <= 23; i++ {
		args = append(args, k.args[i])
	}
	reply, err := k.call(k.ctx, tickScript, run, k.keys.alive(run), args...).Slice()
	if err != nil {
		k.t.Fatal(err)
	}
	return reply
}

// Fields of the reply.
const (
	tickPromoted = iota
	tickDrained
	tickDead
	tickUnfinished
	tickRaised   = 11
	tickReplaced = 12
	tickTrim     = 13
)

func (k *ticker) watch(field string) string {
	k.t.Helper()
	return k.hash(k.keys.own("watch"))[field]
}

// A member is dead after an absence of 1501 ms over checks that are at most 1500 ms apart. A
// check after a longer gap begins anew, with a grace of a second.
func TestTickAbsence(t *testing.T) {
	for _, c := range []struct {
		name  string
		ticks []int64 // ms; the member is alive at the first one
		dead  bool    // at the last one
	}{
		{"1500 ms", []int64{0, 1000, 2000, 2500}, false},
		{"1501 ms", []int64{0, 1000, 2000, 2501}, true},
		{"a gap of 1500 ms", []int64{0, 1000, 2500, 4000}, true},
		{"a gap of 1501 ms", []int64{0, 1000, 2501, 4001}, false},
		{"after the gap, 1500 ms and the grace", []int64{0, 1000, 2501, 4001, 5001}, false},
		{"after the gap, 1501 ms and the grace", []int64{0, 1000, 2501, 4001, 5002}, true},
		{"a check after 500 ms", []int64{0, 1000, 2001, 2501}, true},
		{"none after 499 ms", []int64{0, 1000, 2002, 2501}, false},
		{"the same instant", []int64{0, 1000, 2600, 2600}, false},
		{"the clock stepped back", []int64{0, 1000, 2000, 1900, 3000}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newTicker(t)
			self, other := k.run("self"), k.run("other")
			for i, ms := range c.ticks {
				if i == 1 {
					k.expire(other)
				}
				dead := fmt.Sprint(k.at(self, ms)[tickDead])
				want := "[]"
				if c.dead && i == len(c.ticks)-1 {
					want = "[" + other + "]"
				}
				same(t, fmt.Sprint("tick ", i), dead, want)
			}
			k.c.PExpire(k.ctx, k.keys.own("watch"), time.Hour)
			k.at(self, 20000)
			same(t, "the watch lasts", k.c.PTTL(k.ctx, k.keys.own("watch")).Val(), 10*time.Second)
		})
	}
}

// The first check after a gap cuts leases that a step of the clock has prolonged.
func TestTickCutsLeases(t *testing.T) {
	for _, c := range []struct{ before, first, later time.Duration }{
		{-1, 6 * time.Second, -1},
		{6001 * time.Millisecond, 6 * time.Second, 6001 * time.Millisecond},
		{5999 * time.Millisecond, 5999 * time.Millisecond, 5999 * time.Millisecond},
	} {
		k := newTicker(t)
		self, other := k.run("self"), k.run("other")
		for i, want := range []time.Duration{c.first, c.later} {
			k.c.Persist(k.ctx, k.keys.alive(other))
			if c.before > 0 {
				k.c.PExpire(k.ctx, k.keys.alive(other), c.before+time.Duration(i)*time.Second)
			}
			k.at(self, int64(i)*1000)
			got := k.c.PTTL(k.ctx, k.keys.alive(other)).Val()
			if i == 1 && want > 0 {
				want = c.later
			}
			if got < 0 {
				got = -1
			}
			same(t, fmt.Sprint("check ", i), got, want)
		}
	}
}

// A check drains inboxes of a page of the gone list and names the runs with deliveries.
func TestTickSweeps(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.args[11] = 2 // runs in a page
	for i := range 5 {
		run := fmt.Sprint("gone", i)
		k.c.ZAdd(k.ctx, k.keys.own("gone"), goredis.Z{Score: float64(tickerBegin), Member: run})
		k.c.RPush(k.ctx, k.keys.inbox(run), run)
		k.c.HSet(k.ctx, k.keys.own("meta:"+run), "ended", "dead")
		if i%2 == 1 {
			k.c.HSet(k.ctx, k.keys.inflight(run), run+".1", "r")
		}
	}
	var seen []string
	for i, want := range []string{"2 [gone3]", "1 []", "2 [gone1]", "0 [gone3]", "0 []", "0 [gone1]"} {
		reply := k.at(self, int64(i+1)*1000)
		seen = append(seen, fmt.Sprint(reply[tickDrained], " ", reply[tickUnfinished]))
		same(t, fmt.Sprint("check ", i), seen[i], want)
	}
	for i := range 5 {
		run := fmt.Sprint("gone", i)
		same(t, "metadata of "+run, k.c.Exists(k.ctx, k.keys.own("meta:"+run)).Val(), i%2)
	}
	same(t, "queue", len(k.queue()), 5)
}

// Each chore of a tick is bounded by records and by bytes; the record that reaches the bound
// is the last one.
func TestTickBounds(t *testing.T) {
	for _, c := range []struct {
		most, bytes int
		want        string // promoted and drained
	}{
		{2, 1 << 20, "2 2"}, {9, 30, "3 3"}, {9, 31, "4 4"}, {9, 39, "4 4"}, {9, 40, "4 4"}, {9, 41, "5 5"}, {5, 1 << 20, "5 5"}, {4, 1 << 20, "4 4"},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			k := newTicker(t)
			self := k.run("self")
			k.args[7], k.args[8] = c.most, c.bytes
			k.c.ZAdd(k.ctx, k.keys.own("gone"), goredis.Z{Score: float64(tickerBegin), Member: "gone"})
			k.c.HSet(k.ctx, k.keys.own("meta:gone"), "ended", "dead")
			for i := range 5 {
				record := fmt.Sprintf("%010d", i)
				k.c.RPush(k.ctx, k.keys.inbox("gone"), record)
				d := fmt.Sprint("d.", i)
				k.c.ZAdd(k.ctx, k.keys.own("delayed"), goredis.Z{Score: float64(tickerBegin + 1000), Member: d})
				k.c.ZAdd(k.ctx, k.keys.own("isolated"), goredis.Z{Score: float64(tickerBegin + 1000), Member: d})
				k.c.HSet(k.ctx, k.keys.own("delayed:records"), d, record)
			}
			reply := k.at(self, 1000)
			same(t, "moved", fmt.Sprint(reply[tickPromoted], " ", reply[tickDrained]), c.want)
			var promoted, drained int
			if _, err := fmt.Sscan(c.want, &promoted, &drained); err != nil {
				t.Fatal(err)
			}
			same(t, "queue", len(k.queue()), promoted+drained)
			same(t, "first in the queue", k.queue()[0], "0000000000")
			same(t, "delayed", k.c.ZCard(k.ctx, k.keys.own("delayed")).Val(), 5-promoted)
			same(t, "isolated", k.c.ZCard(k.ctx, k.keys.own("isolated")).Val(), 5-promoted)
			same(t, "their records", k.c.HLen(k.ctx, k.keys.own("delayed:records")).Val(), 5-promoted)
			same(t, "inbox", k.c.LLen(k.ctx, k.keys.inbox("gone")).Val(), 5-drained)
			same(t, "metadata while the inbox has records", k.c.Exists(k.ctx, k.keys.own("meta:gone")).Val() == 1, drained < 5)
		})
	}
}

// A delayed record is due at its time. One without a record is dropped.
func TestTickPromotes(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.at(self, 0)
	for i, ms := range []float64{300, 100, 100, 200} {
		d := fmt.Sprint("d.", i)
		k.c.ZAdd(k.ctx, k.keys.own("delayed"), goredis.Z{Score: float64(tickerBegin) + ms, Member: d})
		if i != 1 {
			k.c.HSet(k.ctx, k.keys.own("delayed:records"), d, d)
		}
	}
	for _, c := range []struct{ ms, promoted int64 }{{99, 0}, {100, 1}, {199, 0}, {300, 2}} {
		same(t, fmt.Sprint("after ", c.ms, " ms"), k.at(self, c.ms)[tickPromoted], c.promoted)
	}
	same(t, "queue", k.queue(), []string{"d.3", "d.0", "d.2"})
	same(t, "delayed", k.keysUnder(":sidecar:delayed*"), []string{})
}

// A delayed record that is missing counts no bytes.
func TestTickPromotesBehindAMissingRecord(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.args[8] = 1
	for i, d := range []string{"missing", "there"} {
		k.c.ZAdd(k.ctx, k.keys.own("delayed"), goredis.Z{Score: float64(i), Member: d})
	}
	k.c.HSet(k.ctx, k.keys.own("delayed:records"), "there", "r")
	same(t, "promoted", k.at(self, 0)[tickPromoted], 1)
}

// A gone run whose records are not all returned stays on the list, however old it is.
func TestTickForgetsNoRunWithRecords(t *testing.T) {
	for _, key := range []string{"inbox:", "inflight:"} {
		t.Run(key, func(t *testing.T) {
			k := newTicker(t)
			self := k.run("self")
			k.c.ZAdd(k.ctx, k.keys.own("gone"), goredis.Z{Score: 1, Member: "old"})
			k.set(k.keys.own(key+"old"), "of another type, so that nothing is returned")
			k.at(self, 0)
			same(t, "gone", k.c.ZCard(k.ctx, k.keys.own("gone")).Val(), 1)
			k.c.Del(k.ctx, k.keys.own(key+"old"))
			k.at(self, 1000)
			same(t, "gone without records", k.c.ZCard(k.ctx, k.keys.own("gone")).Val(), 0)
		})
	}
}

// Gone runs are forgotten after an hour and attempts after a day, a number of them at a time.
func TestTickForgetsInTime(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.args[11] = 3
	for i := range 5 {
		k.c.ZAdd(k.ctx, k.keys.own("gone"), goredis.Z{Score: float64(tickerBegin), Member: fmt.Sprint("g", i)})
		k.c.ZAdd(k.ctx, k.keys.own("attempts:at"), goredis.Z{Score: float64(tickerBegin), Member: fmt.Sprint("s", i)})
		k.c.HSet(k.ctx, k.keys.own("attempts"), fmt.Sprint("s", i), "1:run")
	}
	for _, c := range []struct{ ms, gone, attempts int64 }{
		{3599999, 5, 5}, {3600500, 2, 5}, {3601000, 0, 5}, {86399999, 0, 5}, {86400499, 0, 2}, {86401000, 0, 0},
	} {
		k.at(self, c.ms)
		same(t, fmt.Sprint("gone after ", c.ms), k.c.ZCard(k.ctx, k.keys.own("gone")).Val(), c.gone)
		same(t, fmt.Sprint("attempts after ", c.ms), k.c.HLen(k.ctx, k.keys.own("attempts")).Val(), c.attempts)
		same(t, fmt.Sprint("their times after ", c.ms), k.c.ZCard(k.ctx, k.keys.own("attempts:at")).Val(), c.attempts)
	}
}

// The search for forgotten runs goes through the key space in parts, and rests after the last
// one.
func TestTickSearches(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.args[19], k.args[20] = 5, 3
	for i := range 12 {
		k.set(fmt.Sprint("other:", i), "x")
		k.c.RPush(k.ctx, k.keys.inbox(fmt.Sprint("i", i)), "r")
	}
	k.c.HSet(k.ctx, k.keys.inflight("f"), "f.1", "r")
	k.c.HSet(k.ctx, k.keys.own("inside"), "x", "y") // begins alike
	var ms int64
	for ms = 0; ms == 0 || k.watch("cursor") != "0"; ms += 1000 {
		if ms > 30000 {
			t.Fatal("the search does not end")
		}
		k.at(self, ms)
		if k.watch("cursor") != "0" {
			same(t, "rest", k.watch("rest"), "0")
		}
	}
	if ms < 4000 {
		t.Errorf("the search ended after %d ms", ms)
	}
	gone := k.c.ZRange(k.ctx, k.keys.own("gone"), 0, -1).Val()
	slices.Sort(gone)
	same(t, "found", strings.Join(gone, " "), "f i0 i1 i10 i11 i2 i3 i4 i5 i6 i7 i8 i9")
	same(t, "at no cost", k.hash(k.keys.own("meta:f")), map[string]string{"held": "0", "ended": "clean"})
	k.c.RPush(k.ctx, k.keys.inbox("late"), "r")
	for want := 3; want > 0; want-- {
		same(t, "rest", k.watch("rest"), fmt.Sprint(want))
		same(t, "not found while the search rests", k.c.ZScore(k.ctx, k.keys.own("gone"), "late").Val(), 0)
		k.at(self, ms)
		ms += 1000
	}
	same(t, "the search has not begun", k.watch("cursor"), "0")
	same(t, "nor found anything", k.c.ZScore(k.ctx, k.keys.own("gone"), "late").Val(), 0)
	for range 8 {
		k.at(self, ms)
		ms += 1000
	}
	if k.c.ZScore(k.ctx, k.keys.own("gone"), "late").Val() == 0 && k.c.Exists(k.ctx, k.keys.inbox("late")).Val() == 1 {
		t.Error("the next search has not found the late one")
	}
}

// A part of the search has a number of keys of its own.
func TestTickSearchesParts(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.args[19], k.args[20] = 100, 1
	for i := range 50 {
		k.set(fmt.Sprint("other:", i), "x")
	}
	k.at(self, 0)
	same(t, "cursor, rest", k.watch("cursor")+" "+k.watch("rest"), "0 1")
}

// A prefix may contain characters that have a meaning in a pattern of SCAN.
func TestTickSearchesAnyPrefix(t *testing.T) {
	for _, prefix := range []string{"a[bc]", "a*", "a?", `a\\b`, "a]b", `a[^*?\\]`} {
		t.Run(prefix, func(t *testing.T) {
			both(t, Options{Prefix: prefix}, func(t *testing.T, e *env) {
				self, forgotten := e.run("self"), NewRunID("f")
				e.c.RPush(e.ctx, e.keys.inbox(forgotten), "r")
				same(t, "drained", e.checkMembers(self).Drained, 1)
				same(t, "queue", e.queue(), []string{"r"})
			})
		})
	}
}

// A server that refuses SCAN is not searched, and the other chores go on.
func TestTickWithoutScan(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.c.RPush(k.ctx, k.keys.inbox("forgotten"), "r")
	k.refuse("SCAN", "")
	k.at(self, 0)
	same(t, "cursor, rest", k.watch("cursor")+" "+k.watch("rest"), "0 60")
	k.db.Refuse = nil
	for ms := int64(1000); ms <= 61000; ms += 1000 {
		k.at(self, ms)
	}
	same(t, "found by the next search", k.c.LLen(k.ctx, k.keys.inbox("forgotten")).Val(), 0)
}

// The clock is stored at each check. It has stepped ahead if it is more than a minute ahead of
// a caller's measurement, and no other caller has seen that time.
func TestTickStoresTheClock(t *testing.T) {
	for _, c := range []struct {
		name        string
		at, ahead   any // stored before
		last, since any // of the caller
		ms          int64
		want        int64 // steps back, afterwards
	}{
		{"nothing stored", nil, nil, "", 0, 5000, 0},
		{"kept", tickerBegin, 70, "", 0, 5000, 70},
		{"a step back", tickerBegin + 9000, 70, "", 0, 5000, 4070},
		{"60000 ms ahead", tickerBegin, 70, tickerBegin, 1000, 61000, 70},
		{"60001 ms ahead", tickerBegin, 70, tickerBegin, 1000, 61001, 70 - 60001},
		{"another caller was there", tickerBegin + 59501, 70, tickerBegin, 1000, 61001, 70},
		{"another caller was there before", tickerBegin + 59500, 70, tickerBegin, 1000, 61001, 70 - 1501},
		{"the caller has not ticked", tickerBegin, 70, "", 1000, 3600000, 70},
		{"values that are no times", "1e15", "-1e15", "", 0, 5000, 0},
		{"values that are barely times", "999999999999999", "-999999999999999", "", 0, 5000, 999999999999999 - (tickerBegin + 5000) - 999999999999999},
		{"text", "now", "later", "", 0, 5000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newTicker(t)
			self := k.run("self")
			if c.at != nil {
				k.c.HSet(k.ctx, k.keys.own("clock"), "at", c.at, "ahead", c.ahead)
			}
			k.args[17], k.args[18], k.args[19] = c.last, c.since, 77777
			k.at(self, c.ms)
			clock := k.hash(k.keys.own("clock"))
			same(t, "clock", clock["at"], fmt.Sprint(tickerBegin+c.ms))
			var ahead float64
			if _, err := fmt.Sscan(clock["ahead"], &ahead); err != nil {
				t.Fatal(err)
			}
			same(t, "ahead", int64(ahead), c.want)
		})
	}
}

// A tick returns the caller's deliveries, pauses, commands and the parked records.
func TestTickReply(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.args[16] = 2
	k.push("a", "b", "c")
	k.claim(self, 3)
	orders := k.keys.own("orders:" + self)
	k.c.RPush(k.ctx, orders, "1", "2", "3")
	k.c.RPush(k.ctx, k.keys.own("unrouted"), "1:a", "1:b")
	k.c.ZAdd(k.ctx, k.keys.own("isolated"), goredis.Z{Score: float64(tickerBegin + 1<<30), Member: "d"})
	k.c.HSet(k.ctx, k.keys.own("paused"), self, "{}")
	same(t, "reply", fmt.Sprint(k.at(self, 5)...), fmt.Sprint(int64(0), int64(0), []any{}, []any{}, int64(3), int64(1), int64(0), []any{"1", "2"}, int64(2), tickerBegin+5, int64(1), int64(0), int64(0), int64(0)))
	k.c.HDel(k.ctx, k.keys.own("paused"), self)
	k.c.HSet(k.ctx, k.keys.own("paused"), "*", "{}")
	reply := k.at(self, 6)
	same(t, "pauses and commands", fmt.Sprint(reply[5], reply[6], reply[7]), "0 1 [3]")
	same(t, "no commands", fmt.Sprint(k.at(self, 7)[7]), "[]")
}
