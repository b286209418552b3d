package redis

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestClaimOrder(t *testing.T) {
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprintf("right=%t", right), func(t *testing.T) {
			both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.push("a", "b", "c", "d")
				want := []string{"a", "b", "c", "d"}
				if right {
					slices.Reverse(want)
				}
				first := e.claim(run, 3)
				same(t, "first claim", records(first), want[:3])
				for i, c := range first {
					if c.Seq != int64(i+1) || c.Delivery != fmt.Sprintf("%s.%d", run, i+1) || c.Losses != 0 || c.LostWithRun {
						t.Errorf("claimed[%d] = %+v", i, c)
					}
				}
				same(t, "second claim", records(e.claim(run, 3)), want[3:])
				same(t, "empty claim", records(e.claim(run, 3)), []string(nil))
				same(t, "in flight", len(e.hash(e.keys.inflight(run))), 4)

				// Handed back in any order, they lie as before.
				e.release(run, back(first[1], first[0], first[2])...)
				same(t, "again", records(e.claim(run, 9)), want[:3])
			})
		})
	}
}

func TestClaimTakesInboxFirst(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("a", "b", "c")
		for range 2 {
			if _, err := e.Wait(e.ctx, run, 1); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "one from the inbox", records(e.claim(run, 1)), []string{"a"})
		same(t, "inbox, then queue", records(e.claim(run, 5)), []string{"b", "c"})
	})
}

func TestClaimRetry(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("a", "b", "c")
		first, err := e.Claim(e.ctx, run, "n1", 2)
		if err != nil {
			t.Fatal(err)
		}
		again, err := e.Claim(e.ctx, run, "n1", 2)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "the same records for the same nonce", again, first)
		e.report(run, Report{Delivery: first[0].Delivery})
		again, err = e.Claim(e.ctx, run, "n1", 2)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "without those that are over", again, first[1:])
		next, err := e.Claim(e.ctx, run, "n2", 2)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "a new nonce goes on", records(next), []string{"c"})
	})
}

func TestClaimBytes(t *testing.T) {
	big := strings.Repeat("x", 100)
	mixed := []string{"a", "b", "c", "d", "e", "f", "g"}
	for i := range 6 {
		mixed = append(mixed, strings.Repeat(fmt.Sprint(i), 30))
	}
	for _, c := range []struct {
		name string
		push []string
		max  int
		want []int // records in each claim
	}{
		{"small ones until the limit", []string{"a", "b", big, "c"}, 9, []int{2, 1, 1}},
		{"at least one", []string{big, big}, 9, []int{1, 1}},
		{"large after small", mixed, 99, []int{8, 2, 2, 1}},
		{"number first", []string{"a", "b", "c"}, 2, []int{2, 1}},
		{"exactly full", []string{strings.Repeat("x", 40), strings.Repeat("y", 24), "z"}, 9, []int{2, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{MaxClaimBytes: 64}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.push(c.push...)
				var got []string
				for _, n := range c.want {
					claimed := records(e.claim(run, c.max))
					if len(claimed) != n {
						t.Fatalf("claimed %d records, want %d", len(claimed), n)
					}
					got = append(got, claimed...)
				}
				same(t, "order", got, c.push)
			})
		})
	}
}

// A claim bounded by bytes moves each record once: it pops hardly any that do not fit.
func TestAClaimPushesAtMostOneRecordBack(t *testing.T) {
	e := onModel(t, Options{MaxClaimBytes: 1000})
	run := e.run("w")
	var all []string
	for i := range 40 {
		all = append(all, fmt.Sprintf("%0100d", i))
	}
	e.push(all...)
	pushed := 0
	e.db.Observe = func(args []string, script bool) {
		if script && args[0] == "LPUSH" {
			pushed += len(args) - 2
		}
	}
	for i := range 4 {
		same(t, "claimed", len(e.claim(run, 64)), 10)
		if pushed > i+1 {
			t.Errorf("claim %d has pushed %d records back", i, pushed-i)
		}
	}
}

// A repeated claim tells the attempts of its records, of which some may have ended.
func TestClaimRetryWithAttempts(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("a", "b", "c")
		for range 2 {
			all := e.claim(run, 3)
			e.release(run, lost(all[0], false, 9), back(all[1])[0], lost(all[2], false, 9))
		}
		first, err := e.Claim(e.ctx, run, "n", 3)
		if err != nil {
			t.Fatal(err)
		}
		e.report(run, Report{Delivery: first[1].Delivery})
		again, err := e.Claim(e.ctx, run, "n", 3)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "again", again, []Claimed{first[0], first[2]})
		same(t, "attempts", []int{again[0].Losses, again[1].Losses}, []int{2, 2})
	})
}

// A value of another program as the first or last number of a claim keeps no script running.
func TestClaimRetryWithForeignNumbers(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		for _, c := range []struct{ field, value string }{
			{"last", "1000000000000000"}, {"last", "1e300"}, {"last", "inf"}, {"first", "-1000000000000000"}, {"first", "-inf"}, {"first", "inf"},
		} {
			run := e.run("w")
			e.push("a")
			if _, err := e.Claim(e.ctx, run, "n", 3); err != nil {
				t.Fatal(err)
			}
			e.c.HSet(e.ctx, e.o.Prefix+":sidecar:meta:"+run, c.field, c.value)
			got, err := e.Claim(e.ctx, run, "n", 3)
			unread := err != nil && len(c.value) < 10 // the Lua of miniredis reads digits only
			if (len(got) == 1) != (c.field == "last") && !unread {
				t.Errorf("%s is %s: claimed %d records, %v", c.field, c.value, len(got), err)
			}
		}
	})
}

// A claim that took nothing takes nothing when it is repeated: the repeated call may be the
// one that the sidecar has given up.
func TestClaimRetryOfNothing(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		for i, nonce := range []string{"n", "n", "m"} {
			got, err := e.Claim(e.ctx, run, nonce, 3)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "claimed", records(got), [][]string{nil, nil, {"a"}}[i])
			if i == 0 {
				e.push("a")
			}
		}
	})
}

// A record of the inbox that does not fit into a claim is not overtaken by one of the queue
// that does.
func TestAFullClaimTakesNothingFromTheQueue(t *testing.T) {
	both(t, Options{MaxClaimBytes: 64}, func(t *testing.T, e *env) {
		run := e.run("w")
		big := strings.Repeat("x", 60)
		e.c.RPush(e.ctx, e.keys.inbox(run), "first", big)
		e.push("small")
		same(t, "first claim", records(e.claim(run, 9)), []string{"first"})
		same(t, "second claim", records(e.claim(run, 9)), []string{big})
		same(t, "third claim", records(e.claim(run, 9)), []string{"small"})
	})
}

// poison is what no decoder may see on the way through Redis.
var poison = []string{
	"", "\x00", "not json", "\xff\xfe\xfd", `{"a":`, strings.Repeat("[", 5000), "{\"task_id\":\"\\ud800\"}",
	"line\r\nbreak", "$5\r\nhello", strings.Repeat("é", 1000), "%s%d%%",
}

func TestClaimPoison(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		other := e.run("o")
		e.push(poison...)
		same(t, "claimed", records(e.claim(run, 99)), poison)
		e.die(other, run, 3) // with attempts counted every record is hashed
		claimed := e.claim(other, 99)
		same(t, "claimed after a death", records(claimed), poison)
		for _, c := range claimed {
			if c.Losses != 1 || !c.LostWithRun {
				t.Errorf("%q: losses %d, lone run %t", c.Record, c.Losses, c.LostWithRun)
			}
		}
	})
}

// After a failover to a server that missed our last claims, sequence numbers
// that were handed out must not be used for other records.
func TestClaimNeverReusesADeliveryID(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("a", "b", "c")
		first := e.claim(run, 2)
		if err := e.c.Del(e.ctx, e.keys.own("meta:"+run), e.keys.inflight(run)).Err(); err != nil {
			t.Fatal(err)
		}
		next := e.claim(run, 1)
		if len(next) != 1 || next[0].Seq <= first[1].Seq {
			t.Errorf("claimed %+v after %+v", next, first)
		}
	})
}

func TestClaimWrongType(t *testing.T) {
	for _, key := range []string{"queue", "sidecar:inbox:", "sidecar:inflight:", "sidecar:meta:", "sidecar:attempts", "sidecar:attempts:at"} {
		t.Run(key, func(t *testing.T) {
			e := onRedis(t, Options{})
			run := e.run("w")
			name := e.o.Prefix + ":" + key
			if strings.HasSuffix(key, ":") {
				name += run
			}
			if key != "queue" {
				e.push("r")
			}
			e.set(name, "x")
			_, err := e.Claim(e.ctx, run, "n", 1)
			if Classify(err) != ClassFatal || ClassName(err) != "wrongtype" {
				t.Errorf("%v: class %d, name %q", err, Classify(err), ClassName(err))
			}
			if key != "queue" {
				same(t, "queue", e.queue(), []string{"r"})
			}
		})
	}
}

// Eight runs claim at once: each record is claimed exactly once, and each run
// gets its own in the order of the queue.
func TestClaimConcurrently(t *testing.T) {
	const runs, total, batch = 8, 5000, 64
	e := onRedis(t, Options{})
	values := make([]any, total)
	for i := range values {
		values[i] = fmt.Sprintf("%06d", i)
	}
	if err := e.c.RPush(e.ctx, e.keys.queue(), values...).Err(); err != nil {
		t.Fatal(err)
	}
	got := make([][]string, runs)
	errs := make([]error, runs)
	var wg sync.WaitGroup
	for r := range runs {
		run := e.run(fmt.Sprint("w", r))
		wg.Go(func() {
			for n := 0; ; n++ {
				claimed, err := e.Claim(e.ctx, run, fmt.Sprint(n), batch)
				if err != nil || len(claimed) == 0 {
					errs[r] = err
					return
				}
				got[r] = append(got[r], records(claimed)...)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for r := range got {
		if !slices.IsSorted(got[r]) {
			t.Errorf("run %d got records out of order", r)
		}
		for _, record := range got[r] {
			seen[record]++
		}
	}
	if len(seen) != total {
		t.Errorf("%d distinct records, want %d", len(seen), total)
	}
	for record, n := range seen {
		if n != 1 {
			t.Errorf("%s was claimed %d times", record, n)
		}
	}
}
