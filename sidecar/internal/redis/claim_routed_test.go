package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
)

// keep is how long unrouted records are kept in these tests: by no means.
const keep = time.Hour

func (e *env) routed(run string, patterns []string, free ...int) Routed {
	e.t.Helper()
	r, err := e.ClaimRouted(e.ctx, run, NewRunID("nonce"), KindDemand{patterns, free, keep})
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

func job(id string) string { return fmt.Sprintf(`{"task_id": "%s", "session_id": "s"}`, id) }

func jobs(ids ...string) []string {
	all := make([]string, len(ids))
	for i, id := range ids {
		all[i] = job(id)
	}
	return all
}

// ids are what the records' tasks are called.
func ids(list []string) []string {
	var all []string
	for _, r := range list {
		info, _ := task.Decode([]byte(r))
		all = append(all, info.TaskID)
	}
	return all
}

// claimedIDs has the kinds, too.
func claimedIDs(claimed []Claimed) []string {
	var all []string
	for _, c := range claimed {
		all = append(all, fmt.Sprint(ids([]string{string(c.Record)})[0], ":", c.Kind))
	}
	return all
}

func (e *env) list(key string) []string {
	e.t.Helper()
	list, err := e.c.LRange(e.ctx, key, 0, -1).Result()
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

// unrouted are the records that no member took, and when they came there.
func (e *env) unrouted() (list []string, times []int64) {
	e.t.Helper()
	for _, entry := range e.list(e.keys.own("unrouted")) {
		at, record, found := strings.Cut(entry, ":")
		var ms int64
		if _, err := fmt.Sscan(at, &ms); err != nil || !found {
			e.t.Errorf("entry %q", entry)
		}
		list, times = append(list, record), append(times, ms)
	}
	return list, times
}

var abKinds = []string{"a*", "b*"}

func TestClaimRoutedOrder(t *testing.T) {
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprintf("right=%t", right), func(t *testing.T) {
			both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
				run := e.run("w")
				push := func(list ...string) {
					if right {
						slices.Reverse(list)
					}
					e.push(list...)
				}
				queue := func() []string {
					list := ids(e.queue())
					if right {
						slices.Reverse(list)
					}
					return list
				}
				push(jobs("a1", "a2", "b1", "a3", "b2", "b3", "a4")...)
				got := e.routed(run, abKinds, 0, 2)
				same(t, "those of the free kind", claimedIDs(got.Claimed), []string{"b1:1", "b2:1"})
				same(t, "the rest", queue(), []string{"a1", "a2", "a3", "b3", "a4"})
				same(t, "left", got.Remaining, 5)

				got = e.routed(run, abKinds, 3, 1)
				same(t, "in the queue's order", claimedIDs(got.Claimed), []string{"a1:0", "a2:0", "a3:0", "b3:1"})
				same(t, "the rest", queue(), []string{"a4"})

				e.release(run, back(got.Claimed...)...)
				same(t, "handed back", queue(), []string{"a1", "a2", "a3", "b3", "a4"})
				got = e.routed(run, abKinds, 0, 0)
				same(t, "with no slot", claimedIDs(got.Claimed), []string(nil))
				same(t, "nothing has moved", queue(), []string{"a1", "a2", "a3", "b3", "a4"})
			})
		})
	}
}

// The inbox is part of the queue: a BLMOVE brings whatever is at its head.
func TestClaimRoutedEmptiesTheInbox(t *testing.T) {
	for _, right := range []bool{false, true} {
		both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
			run := e.run("w")
			list := jobs("a1", "b1", "x1", "a2", "b2")
			if right {
				slices.Reverse(list)
			}
			e.push(list...)
			for range 4 {
				if _, err := e.Wait(e.ctx, run, 1); err != nil {
					t.Fatal(err)
				}
			}
			got := e.routed(run, abKinds, 0, 1)
			same(t, "claimed", claimedIDs(got.Claimed), []string{"b1:1"})
			rest := ids(e.queue())
			if right {
				slices.Reverse(rest)
			}
			same(t, "back in their order", rest, []string{"a1", "a2", "b2"})
			unrouted, _ := e.unrouted()
			same(t, "unrouted", ids(unrouted), []string{"x1"})
			same(t, "inbox", e.list(e.keys.inbox(run)), []string{})
			same(t, "left and moved", fmt.Sprint(got.Remaining, got.Moved), "3 1")
		})
	}
}

func TestClaimRoutedIsBounded(t *testing.T) {
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprint("right=", right), func(t *testing.T) {
			both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
				run := e.run("w")
				var list []string
				for i := range lookAt {
					list = append(list, job(fmt.Sprint("a", i)))
				}
				list = append(list, job("b"))
				if right {
					slices.Reverse(list)
				}
				e.push(list...)
				same(t, "b is beyond", claimedIDs(e.routed(run, abKinds, 0, 9).Claimed), []string(nil))
				same(t, "one a", claimedIDs(e.routed(run, abKinds, 1, 9).Claimed), []string{"a0:0"})
				same(t, "then b is within", claimedIDs(e.routed(run, abKinds, 0, 9).Claimed), []string{"b:1"})
				same(t, "all others are there", len(e.queue()), lookAt-1)
			})
		})
	}
}

// Records for other runs whose time is ahead of the clock, which has stepped, move behind the
// rest, too, and get the time of the clock.
func TestUnroutedAheadOfTheClockRotate(t *testing.T) {
	both(t, Options{MaxClaimBytes: 200}, func(t *testing.T, e *env) {
		run := e.run("w")
		for _, id := range []string{"x1", "a1", "x2", "x3", "x4", "x5", "x6", "x7", "a8", "x9", "x10"} {
			if err := e.c.RPush(e.ctx, e.keys.own("unrouted"), "99999999999999:"+job(id)).Err(); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "claimed", claimedIDs(e.routed(run, abKinds, 0, 0).Claimed), []string(nil))
		list, times := e.unrouted()
		same(t, "unrouted", ids(list), []string{"a1", "a8", "x9", "x10", "x1", "x2", "x3", "x4", "x5", "x6", "x7"})
		for i, at := range times {
			same(t, fmt.Sprint("ahead of the clock: ", ids(list[i:i+1])), at == 99999999999999, i < 4)
		}
	})
}

// A claim examines the queue until it has read MaxClaimBytes, eight records at a time, from
// the end that it claims from.
func TestClaimRoutedExaminesBytes(t *testing.T) {
	for _, right := range []bool{false, true} {
		for size, want := range map[int][]string{199: {"b:1"}, 200: nil} {
			t.Run(fmt.Sprint(right, size), func(t *testing.T) {
				both(t, Options{MaxClaimBytes: 200, QueueRight: right}, func(t *testing.T, e *env) {
					run := e.run("w")
					var list []string
					for i := range 8 {
						list = append(list, fmt.Sprintf(`{"task_id":"a%d"%*s}`, i, 25-16, ""))
					}
					list[0] = list[0][:len(list[0])-1-(200-size)] + "}"
					list = append(list, job("b"))
					if right {
						slices.Reverse(list)
					}
					e.push(list...)
					got := e.routed(run, abKinds, 0, 1)
					same(t, "claimed", claimedIDs(got.Claimed), want)
					same(t, "left", got.Remaining, 9-len(want))
				})
			})
		}
	}
}

// A claim takes what fits exactly, and a first record of any size.
func TestClaimRoutedFits(t *testing.T) {
	for name, c := range map[string]struct {
		sizes []int
		want  int
	}{"exactly": {[]int{100, 100}, 2}, "one byte more": {[]int{100, 101}, 1}, "a large one": {[]int{300, 20}, 1}} {
		t.Run(name, func(t *testing.T) {
			both(t, Options{MaxClaimBytes: 200}, func(t *testing.T, e *env) {
				run := e.run("w")
				for i, size := range c.sizes {
					e.push(fmt.Sprintf(`{"task_id":"a%d"%*s}`, i, size-16, ""))
				}
				same(t, "claimed", len(e.routed(run, abKinds, 2, 0).Claimed), c.want)
			})
		})
	}
}

// A record whose kind is unknown uses a slot of any kind.
func TestClaimRoutedUnknownKinds(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("no record", "nor this", "nor that")
		same(t, "claimed", records(e.routed(run, abKinds, 1, 1).Claimed), []string{"no record", "nor this"})
		same(t, "queue", e.queue(), []string{"nor that"})
	})
}

// Unrouted records keep their order. In a list that is longer than the part that a claim
// examines, those for other runs move behind the rest, so that the rest gets its turn.
func TestUnroutedRotate(t *testing.T) {
	all := []string{"x1", "a1", "x2", "x3", "x4", "x5", "x6", "x7", "a8", "x9", "x10"}
	for _, c := range []struct{ list, want []string }{
		{all[:2], all[:2]},
		{all[:8], all[:8]},
		{all, []string{"a1", "a8", "x9", "x10", "x1", "x2", "x3", "x4", "x5", "x6", "x7"}},
		{
			[]string{"x1", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"},
			[]string{"a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9", "x1"},
		},
	} {
		for _, keep := range []time.Duration{time.Hour, 0} { // in the second case they are over, and another run takes them
			t.Run(fmt.Sprint(len(c.list), keep), func(t *testing.T) {
				both(t, Options{MaxClaimBytes: 200}, func(t *testing.T, e *env) {
					run, other := e.run("w"), e.run("o")
					e.push(jobs(c.list...)...)
					for len(e.queue()) > 0 {
						e.routed(other, []string{"z*"}, 0)
					}
					if keep == 0 {
						e.routed(e.run("x"), []string{"x*"}, 0)
						if len(c.list) > 8 {
							e.c.Del(e.ctx, e.keys.own("unrouted"))
							e.push(jobs(c.list...)...)
							for len(e.queue()) > 0 {
								e.routed(other, []string{"z*"}, 0)
							}
						}
					}
					got, err := e.ClaimRouted(e.ctx, run, "n", KindDemand{abKinds, []int{0, 0}, keep})
					if err != nil {
						t.Fatal(err)
					}
					same(t, "claimed", len(got.Claimed), 0)
					list, _ := e.unrouted()
					same(t, "unrouted", ids(list), c.want)
				})
			})
		}
	}
}

// Records that no run takes are over within the byte limit of a claim.
func TestUnroutedAreOverWithinTheLimit(t *testing.T) {
	both(t, Options{MaxClaimBytes: 200}, func(t *testing.T, e *env) {
		run, other := e.run("w"), e.run("o")
		for i := range 3 {
			e.push(fmt.Sprintf(`{"task_id":"y%d"%*s}`, i, 100-16, ""))
		}
		for len(e.queue()) > 0 {
			e.routed(other, []string{"z*"}, 0)
		}
		for _, want := range []int{2, 1, 0} {
			got, err := e.ClaimRouted(e.ctx, run, NewRunID("n"), KindDemand{abKinds, []int{0, 0}, 0})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "claimed", len(got.Claimed), want)
		}
	})
}

// Collect moves unrouted records in their order, until it reaches its number or its bytes.
func TestCollectBounds(t *testing.T) {
	for _, c := range []struct{ max, bytes, want int }{{2, 1 << 20, 2}, {9, 40, 2}, {9, 41, 3}, {9, 39, 2}, {9, 1, 1}, {9, 1 << 20, 4}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			both(t, Options{MaxClaimBytes: c.bytes}, func(t *testing.T, e *env) {
				run := e.run("w")
				var want []string
				for i := range 4 {
					record := fmt.Sprintf("%020d", i)
					e.c.RPush(e.ctx, e.keys.own("unrouted"), "1:"+record)
					want = append(want, record)
				}
				n, err := e.Collect(e.ctx, run, c.max)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "moved", n, c.want)
				same(t, "inbox", e.list(e.keys.inbox(run)), want[:c.want])
				same(t, "unrouted", e.c.LLen(e.ctx, e.keys.own("unrouted")).Val(), 4-c.want)
				if _, err := e.Collect(e.ctx, NewRunID("x"), 1); !errors.Is(err, ErrGone) {
					t.Errorf("of no member: %v", err)
				}
			})
		})
	}
}

// From the right end, too, a claim examines more than one chunk in the order of the queue.
func TestClaimRoutedFromTheRight(t *testing.T) {
	both(t, Options{QueueRight: true}, func(t *testing.T, e *env) {
		run := e.run("w")
		var want []string
		for i := range 20 {
			if err := e.c.LPush(e.ctx, e.keys.queue(), job(fmt.Sprint("a", i))).Err(); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprint("a", i, ":0"))
		}
		same(t, "claimed", claimedIDs(e.routed(run, abKinds, 20, 0).Claimed), want)
	})
}

func TestClaimRoutedRetry(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push(jobs("b", "a", "x")...)
		routes := KindDemand{abKinds, []int{1, 1}, 0}
		first, err := e.ClaimRouted(e.ctx, run, "n1", routes)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "claimed", claimedIDs(first.Claimed), []string{"b:1", "a:0"})
		e.report(run, Report{Delivery: first.Claimed[0].Delivery})
		again, err := e.ClaimRouted(e.ctx, run, "n1", routes)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "again, without what is over", again.Claimed, first.Claimed[1:])
		same(t, "moved again", again.Moved, 0)
		dead, err := e.ClaimRouted(e.ctx, run, "n2", routes)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "over at once", claimedIDs(dead.Claimed), []string{"x:-2"})
		again, err = e.ClaimRouted(e.ctx, run, "n2", routes)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "that again", again.Claimed, dead.Claimed)
	})
}

// Records are large: the order of a kind holds where the claim is full.
func TestClaimRoutedBytes(t *testing.T) {
	both(t, Options{MaxClaimBytes: 200}, func(t *testing.T, e *env) {
		run := e.run("w")
		large := func(id string) string { return `{"task_id": "` + id + `", "x": "` + strings.Repeat("x", 130) + `"}` }
		e.push(large("a1"), large("a2"), job("a3"), job("b1"))
		same(t, "the first", claimedIDs(e.routed(run, abKinds, 9, 9).Claimed), []string{"a1:0"})
		same(t, "the queue", ids(e.queue()), []string{"a2", "a3", "b1"})
		same(t, "the next", claimedIDs(e.routed(run, abKinds, 9, 9).Claimed), []string{"a2:0", "a3:0"})
		same(t, "the last", claimedIDs(e.routed(run, abKinds, 9, 9).Claimed), []string{"b1:1"})
	})
}

// Whatever is in a record, it is claimed or left, byte for byte.
func TestClaimRoutedPoison(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		poison := slices.DeleteFunc(slices.Clone(poison), func(r string) bool { return strings.Contains(r, "task_id") })
		e.push(poison...)
		got := e.routed(run, abKinds, 0, 0)
		same(t, "with no slot", records(got.Claimed), []string(nil))
		same(t, "all are there", e.queue(), poison)
		got = e.routed(run, abKinds, 0, 99)
		same(t, "claimed", records(got.Claimed), poison)
		for _, c := range got.Claimed {
			if c.Kind != KindUnknown {
				t.Errorf("%.60q: kind %d", c.Record, c.Kind)
			}
		}
	})
}

// What a task is called, and which pattern fits that, is the same for Redis and
// for the decoder that the sidecar has.
func TestLuaMatchesKindsLikeGo(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		fixed := []struct {
			record string
			kind   int
		}{
			{`{"task_id": "a.1"}`, 0},
			{`{"session_id":"s","task_id":"a.1"}`, 0},
			{"\n{ \"task_id\"\t:\r\n\"a.1\"}", 0},
			{`{"params":{"task_id":"a.1"},"task_id":"b.1"}`, 1},
			{`{"params":[{"task_id":"a.1"}],"task_id":"b.1"}`, 1},
			{`{"x":"\"task_id\":\"a.1\"","task_id":"b.1"}`, 1},
			{`{"x":"task_id","y":"\\","task_id":"b.1"}`, 1},
			{`{"x":"}{][\\\"","task_id":"b.1"}`, 1},
			{`{"task_id": "\u0061.\"1"}`, 0},
			{`{"task_id": "b.\ud83d\ude00\u00e9\b\f\n\r\t\/\\"}`, 1},
			{`{"x":"\ud800","task_id": "b.\ud800"}`, 1},
			{`{"x":NaN,"task_id":"b.1"}`, 1},
			{`{"x":` + strings.Repeat("[", 3000) + strings.Repeat("]", 3000) + `,"task_id":"b.1"}`, 1},
			{`{"task_id": "c"}`, KindNone},
			{`{"params":{"task_id":"a.1"}}`, KindUnknown},
			{`{"task_id": 7, "params":{"task_id":"a.1"}}`, KindUnknown},
			{`{"task_id": null}`, KindUnknown},
			{`{"x":"task_id","Task_ID": "a.1"}`, 0},
			{`{"task\u005fid": "b.1"}`, 1},
			{`{"taſk_id": "b.1"}`, KindUnknown}, // Go reads it all the same
			{`["task_id", "a.1"]`, KindUnknown},
			{`{"task_id": "a.1`, KindUnknown},
			{`{"x": "\ud800\", "task_id": "a.1"}`, KindUnknown},
			{`{"task_id": "a.\x"}`, KindUnknown},
			{`{"task_id": "a.\u12"}`, KindUnknown},
			{`{"task_id"}`, KindUnknown},
		}
		for _, c := range fixed {
			if got := e.kindOf([]string{"a.*", "b.*"}, c.record); got != c.kind {
				t.Errorf("%.200s: kind %d, want %d", c.record, got, c.kind)
			}
		}
		rng := rand.New(rand.NewPCG(1, 2))
		alphabet := []string{"a", "b", ".", "é", "\u0301", "😀", "*", "?", `\`, "%", "-", "[", "^", "$", " ", "\"", "\x01"}
		text := func(n int, from []string) (s string) {
			for range rng.IntN(n) {
				s += from[rng.IntN(len(from))]
			}
			return s
		}
		fits := 0
		for range 600 {
			var list []route.Pattern
			var texts []string
			for len(list) < 3 {
				s := text(6, append([]string{"*", "*", "?", "a"}, alphabet[:15]...))
				if p, err := route.Parse(s); err == nil {
					list, texts = append(list, p), append(texts, s)
				}
			}
			id := "x" + text(7, alphabet)
			if rng.IntN(2) == 0 {
				id = strings.NewReplacer("*", text(3, alphabet), "?", alphabet[rng.IntN(6)], `\`, "").Replace(texts[rng.IntN(3)]) + "a"
				id = id[:len(id)-rng.IntN(2)]
			}
			if id == "" {
				continue
			}
			record, err := json.Marshal(map[string]any{"task_id": id, "params": map[string]string{"task_id": "a"}})
			if err != nil {
				t.Fatal(err)
			}
			info, err := task.Decode(record)
			if err != nil {
				t.Fatal(err)
			}
			want := route.Find(list, info.TaskID)
			if want < 0 {
				want = KindNone
			} else {
				fits++
			}
			if got := e.kindOf(texts, string(record)); got != want {
				t.Fatalf("%q of %s: Redis says %d, Go %d", texts, record, got, want)
			}
		}
		if fits < 100 {
			t.Errorf("only %d fit", fits)
		}
	})
}

// kindOf claims one record and forgets it.
func (e *env) kindOf(patterns []string, record string) int {
	e.t.Helper()
	run := e.run("w")
	e.push(record)
	free := slices.Repeat([]int{1}, len(patterns))
	routes := KindDemand{patterns, free, 0} // over at once
	var all []Claimed
	for range 2 { // the second finds what was unrouted
		got, err := e.ClaimRouted(e.ctx, run, NewRunID("n"), routes)
		if err != nil {
			e.t.Fatal(err)
		}
		all = append(all, got.Claimed...)
	}
	if len(all) != 1 || string(all[0].Record) != record {
		e.t.Fatalf("%.200s: claimed %q", record, records(all))
	}
	e.report(run, Report{Delivery: all[0].Delivery})
	if err := e.Leave(e.ctx, run); err != nil {
		e.t.Fatal(err)
	}
	return all[0].Kind
}

func TestUnrouted(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("ab")
		before := time.Now().Add(-time.Minute).UnixMilli()
		e.push(jobs("x1", "a1", "x2", "x3", "c1")...)
		got := e.routed(run, abKinds, 0, 0)
		same(t, "moved and left", fmt.Sprint(got.Moved, got.Remaining), "4 1")
		list, times := e.unrouted()
		same(t, "unrouted", ids(list), []string{"x1", "x2", "x3", "c1"})
		if times[0] < before || times[0] > time.Now().Add(time.Minute).UnixMilli() {
			t.Errorf("time %d", times[0])
		}
		e.push(job("a2"))
		same(t, "a look changes nothing", claimedIDs(e.routed(run, abKinds, 9, 0).Claimed), []string{"a1:0", "a2:0"})
		list, again := e.unrouted()
		same(t, "unrouted", ids(list), []string{"x1", "x2", "x3", "c1"})
		same(t, "since", again, times)

		other := e.run("x")
		e.push(job("x4"))
		same(t, "one slot, the oldest first", claimedIDs(e.routed(other, []string{"x*"}, 1).Claimed), []string{"x1:0"})
		list, _ = e.unrouted()
		same(t, "unrouted", ids(list), []string{"x2", "x3", "c1"})
		same(t, "and then the queue", claimedIDs(e.routed(other, []string{"x*"}, 9).Claimed), []string{"x2:0", "x3:0", "x4:0"})

		plain := e.run("plain")
		n, err := e.Collect(e.ctx, plain, 5)
		same(t, "collected", fmt.Sprint(n, err), "1 <nil>")
		same(t, "by one that takes everything", ids(records(e.claim(plain, 9))), []string{"c1"})
		same(t, "keys", e.keysUnder(":sidecar:unrouted*"), []string{})
	})
}

// A record that no member takes is over after a while, and not before; a record
// that a member takes never is.
func TestUnroutedForTooLong(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("ab"), e.run("x")
		odd := "{\"task_id\" :  \"y\", \"x\": \"line\\nbreak\", \"z\":\n1.0}"
		e.push(job("x1"), odd, job("x2"), "not json")
		e.routed(other, []string{"x*", "z"}, 0, 0)
		look := func(keep time.Duration) []string {
			t.Helper()
			got, err := e.ClaimRouted(e.ctx, run, NewRunID("n"), KindDemand{abKinds, []int{0, 0}, keep})
			if err != nil {
				t.Fatal(err)
			}
			return claimedIDs(got.Claimed)
		}
		same(t, "not yet", look(keep), []string(nil))
		_, before := e.unrouted()
		same(t, "unrouted", len(before), 3)
		age := e.c.Time(e.ctx).Val().UnixMilli() + 1
		for i := range before {
			list, _ := e.unrouted()
			if err := e.c.LSet(e.ctx, e.keys.own("unrouted"), int64(i), fmt.Sprint(before[i]-age/2, ":", list[i])).Err(); err != nil {
				t.Fatal(err)
			}
		}
		got, err := e.ClaimRouted(e.ctx, run, "n", KindDemand{abKinds, []int{0, 0}, keep})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Claimed) != 1 || got.Claimed[0].Kind != KindNone || string(got.Claimed[0].Record) != odd {
			t.Fatalf("claimed %+v", got.Claimed)
		}
		list, times := e.unrouted()
		same(t, "another sidecar takes the others", ids(list), []string{"x1", "x2"})
		for _, at := range times {
			if at < before[0] {
				t.Errorf("its time has not begun anew: %d", at)
			}
		}
		same(t, "with no time at all", look(0), []string(nil))
		e.die(run, other, 3)
		got, err = e.ClaimRouted(e.ctx, run, "n2", KindDemand{abKinds, []int{0, 0}, 0})
		if err != nil {
			t.Fatal(err)
		}
		same(t, "when that is gone", claimedIDs(got.Claimed), []string{"x1:-2", "x2:-2"})
		same(t, "an unreadable record is left for a slot", e.queue(), []string{"not json"})
		plain := e.run("plain")
		e.push(job("x3"))
		look(0)
		same(t, "a run that has not claimed yet does not count", look(0), []string{"x3:-2"})
		e.push(job("x3"))
		e.release(plain, back(e.claim(plain, 1)...)...)
		look(0)
		same(t, "one without patterns takes everything", look(0), []string(nil))
		if err := e.Leave(e.ctx, plain); err != nil {
			t.Fatal(err)
		}
		same(t, "when that has left", look(0), []string{"x3:-2"})
	})
}

// More unrouted records than one look sees: each is seen in its turn.
func TestManyUnrouted(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("ab"), e.run("x")
		for i := range 150 {
			e.push(job(fmt.Sprintf("x%03d", i)))
		}
		e.push(jobs("y1", "y2")...)
		for range 3 {
			e.routed(run, abKinds, 0, 0)
		}
		var got []string
		for range 4 {
			got = append(got, claimedIDs(e.routed(run, []string{"y*"}, 9).Claimed)...)
		}
		same(t, "those at the end", got, []string{"y1:0", "y2:0"})
		var x []string
		for range 40 {
			x = append(x, claimedIDs(e.routed(other, []string{"x*"}, 5).Claimed)...)
		}
		slices.Sort(x)
		if len(x) != 150 || len(slices.Compact(x)) != 150 {
			t.Errorf("%d of 150: %q", len(x), x)
		}
		list, _ := e.unrouted()
		same(t, "nothing is left", list, []string(nil))
	})
}

// Runs of several kinds, and one of all, take each other's records away, die and
// leave: every record is in one place at any time, and none is forgotten.
func TestRoutedModel(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			e := onRedis(t, Options{QueueRight: seed%2 == 1})
			rng := rand.New(rand.NewPCG(seed, 9))
			kinds := [][]string{{"a*", "b*"}, {"c*"}, {"b*", "*d"}, nil}
			type member struct {
				run      string
				patterns []string
				inFlight []Claimed
			}
			join := func() *member { return &member{run: e.run("m"), patterns: kinds[rng.IntN(len(kinds))]} }
			keeper := &member{run: e.run("keeper"), patterns: nil} // takes everything: nothing is unrouted for good
			e.claim(keeper.run, 1)
			members := []*member{keeper, join(), join()}
			open, pushed := map[string]bool{}, 0
			places := func() map[string][]string {
				m := &model{t: t, e: e}
				return m.places()
			}
			for range 150 {
				m := members[rng.IntN(len(members))]
				switch rng.IntN(8) {
				case 0, 1:
					for range rng.IntN(5) {
						record := job(fmt.Sprintf("%c%d", 'a'+rng.IntN(5), pushed))
						pushed++
						open[record] = true
						e.push(record)
					}
				case 2:
					side := "LEFT"
					if e.o.QueueRight {
						side = "RIGHT"
					}
					e.c.LMove(e.ctx, e.keys.queue(), e.keys.inbox(m.run), side, "RIGHT")
				case 3, 4, 5:
					if m.patterns == nil {
						if _, err := e.Collect(e.ctx, m.run, 3); err != nil {
							t.Fatal(err)
						}
						m.inFlight = append(m.inFlight, e.claim(m.run, 1+rng.IntN(3))...)
						break
					}
					free := make([]int, len(m.patterns))
					for i := range free {
						free[i] = rng.IntN(3)
					}
					got, err := e.ClaimRouted(e.ctx, m.run, NewRunID("n"), KindDemand{m.patterns, free, 0})
					if err != nil {
						t.Fatal(err)
					}
					for _, c := range got.Claimed {
						if c.Kind < 0 || free[c.Kind] == 0 {
							t.Errorf("%s: kind %d", c.Record, c.Kind)
						} else {
							free[c.Kind]--
						}
					}
					m.inFlight = append(m.inFlight, got.Claimed...)
				case 6:
					n := rng.IntN(len(m.inFlight) + 1)
					e.release(m.run, back(m.inFlight[n:]...)...)
					for _, c := range m.inFlight[:n] {
						e.report(m.run, Report{Delivery: c.Delivery})
						delete(open, string(c.Record))
					}
					m.inFlight = nil
				case 7:
					if m == keeper {
						break
					}
					if rng.IntN(2) == 0 {
						e.die(keeper.run, m.run, 1000)
					} else if err := e.Leave(e.ctx, m.run); err != nil {
						t.Fatal(err)
					}
					*m = *join()
				}
				found := places()
				for record := range open {
					if len(found[record]) != 1 {
						t.Fatalf("%s is in %v", record, found[record])
					}
				}
				if len(found) != len(open) {
					t.Fatalf("%d records, want %d", len(found), len(open))
				}
			}
		})
	}
}

func TestClaimRoutedWrongType(t *testing.T) {
	for _, key := range []string{"queue", "sidecar:unrouted", "sidecar:inbox:"} {
		e := onRedis(t, Options{})
		run := e.run("w")
		name := e.o.Prefix + ":" + key
		if strings.HasSuffix(key, ":") {
			name += run
		}
		if key != "queue" {
			e.push(job("a"))
		}
		e.set(name, "x")
		_, err := e.ClaimRouted(e.ctx, run, "n", KindDemand{abKinds, []int{1, 1}, keep})
		if Classify(err) != ClassFatal || ClassName(err) != "wrongtype" {
			t.Errorf("%s: %v: class %d, name %q", key, err, Classify(err), ClassName(err))
		}
	}
}

func TestClaimRoutedByNoMember(t *testing.T) {
	e := onRedis(t, Options{})
	e.push(job("a"))
	if _, err := e.ClaimRouted(e.ctx, NewRunID("w"), "n", KindDemand{abKinds, []int{1, 1}, keep}); failure("", err) == nil || ClassName(err) != "gone" {
		t.Errorf("got %v", err)
	}
	if _, err := e.Collect(e.ctx, NewRunID("w"), 1); ClassName(err) != "gone" {
		t.Errorf("got %v", err)
	}
	same(t, "queue", e.queue(), jobs("a"))
}
