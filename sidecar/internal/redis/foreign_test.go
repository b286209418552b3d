package redis

import (
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// A key of one run that holds another kind of value ended every sidecar of the prefix
// with status 69, one after the other, for as long as it was there.
func TestAKeyOfAnotherTypeHarmsItsRunAlone(t *testing.T) {
	for _, name := range []string{"inbox", "inflight", "meta", "info", "alive", "orders", "asked"} {
		t.Run(name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				self, ended, lost := e.run("self"), e.run("ended"), e.run("lost")
				e.push("a", "b", "c")
				e.claim(lost, 1)
				if _, err := e.Wait(e.ctx, lost, 1); err != nil { // b is in the inbox
					t.Fatal(err)
				}
				same(t, "leave", e.Leave(e.ctx, ended), nil)
				spoil := func(run string) {
					key := e.keys.own(name + ":" + run)
					if err := e.c.Del(e.ctx, key).Err(); err != nil {
						t.Fatal(err)
					}
					if name == "alive" || name == "info" {
						if err := e.c.RPush(e.ctx, key, "x").Err(); err != nil {
							t.Fatal(err)
						}
						return
					}
					e.set(key, "x")
				}
				spoil(ended)
				spoil(lost)
				e.tick(self)
				runs, err := e.Fleet(e.ctx)
				same(t, "fleet", []any{len(runs), err}, []any{2, nil})
				_, err = e.Overview(e.ctx)
				same(t, "overview", err, nil)
				_, err = e.InFlight(e.ctx)
				same(t, "in flight", err, nil)

				e.expire(lost)
				e.die(self, lost, 3)
				want := map[string][]string{"inbox": {"a", "c"}, "inflight": {"b", "c"}}[name]
				if want == nil {
					want = []string{"a", "b", "c"}
				}
				same(t, "queue", e.queue(), want)
				e.tick(self)
			})
		})
	}
}

func TestADeadLetterOfAnotherTypeHidesNoOther(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.bury(run, `{"task_id":"a"}`, "a", "", "1")
		good, err := e.DeadLetters(e.ctx, 0)
		same(t, "letters", []any{len(good), err}, []any{1, nil})
		if err := e.c.ZAdd(e.ctx, e.keys.own("dead"), goredis.Z{Score: 5, Member: "bad.1"}).Err(); err != nil {
			t.Fatal(err)
		}
		e.set(e.keys.deadLetter("bad.1"), "x")
		got, err := e.DeadLetters(e.ctx, 0)
		same(t, "letters beside it", []any{got, err}, []any{good, nil})
		_, there, err := e.DeadLetter(e.ctx, "bad.1")
		same(t, "the letter", []any{there, err}, []any{false, nil})
		result, err := e.Requeue(e.ctx, "bad.1", false)
		same(t, "requeue", []any{result, err}, []any{fleet.RequeueGone, nil})
		dropped, err := e.Drop(e.ctx, "bad.1")
		same(t, "drop", []any{dropped, err}, []any{true, nil})
	})
}

// For a record that no kind of this run takes, the notes of all members are read.
func TestANoteOfAnotherTypeStopsNoRoutedClaim(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, other := e.run("self"), e.run("other")
		e.set(e.keys.own("meta:"+other), "x")
		if err := e.c.RPush(e.ctx, e.keys.own("unrouted"), "5:"+job("b")).Err(); err != nil {
			t.Fatal(err)
		}
		same(t, "claimed", claimedIDs(e.routed(self, []string{"a"}, 1).Claimed), []string{"b:-2"})
	})
}
