package redis

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

func (e *env) info(r fleet.Run) {
	e.t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		e.t.Fatal(err)
	}
	e.set(e.keys.own("info:"+r.ID), string(text))
}

func TestFleet(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a, b, c := e.run("a"), e.run("b"), e.run("c")
		e.info(fleet.Run{ID: a, WorkerID: "a", Host: "h", State: "running", Slots: 4, Busy: 1})
		e.expire(c)
		same(t, "pause", e.Pause(e.ctx, b, "me"), nil)
		got, err := e.Fleet(e.ctx)
		same(t, "error", err, nil)
		same(t, "fleet", got, []fleet.Run{
			{ID: a, WorkerID: "a", Host: "h", State: "running", Slots: 4, Busy: 1},
			{ID: b, State: fleet.Unknown, Paused: true},
			{ID: c, State: fleet.Absent},
		})
		same(t, "pause all", e.Pause(e.ctx, fleet.AllRuns, "me"), nil)
		if got, err = e.Fleet(e.ctx); err != nil || !got[0].Paused {
			t.Errorf("all are paused: %+v, %v", got, err)
		}
	})
}

func TestOverviewAndPeek(t *testing.T) {
	for _, right := range []bool{false, true} {
		both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
			run := e.run("w")
			old := time.Now().Add(-time.Hour).Unix()
			record := func(id string, at int64) string { return fmt.Sprintf(`{"task_id":%q,"created_at":%d.5}`, id, at) }
			e.claimOne(run, record("taken", old-1000))
			e.bury(run, record("dead", 1), "dead", "", "1")
			e.push("rubbish", record("a", old), record("b", old+60))
			q, err := e.Overview(e.ctx)
			same(t, "error", err, nil)
			if q.Oldest == nil || *q.Oldest < 59*time.Minute || *q.Oldest > 2*time.Hour {
				t.Errorf("oldest %v", q.Oldest)
			}
			q.Oldest = nil
			same(t, "overview", q, fleet.Queue{Depth: 3, InFlight: 1, Dead: 1})
			list, err := e.Peek(e.ctx, 2)
			same(t, "peek", fmt.Sprint(len(list), err), "2 <nil>")
			first := "a"
			if right {
				first = "b"
			}
			for _, r := range list {
				if r.Problem == "" {
					same(t, "first decodable", r.TaskID, first)
					same(t, "created", r.CreatedAt.IsZero(), false)
					break
				}
			}
		})
	}
}

// An age that is not known is not 0.
func TestAgesOfRecordsThatDoNotTellTheirs(t *testing.T) {
	e := onRedis(t, Options{})
	now := time.Now()
	for _, c := range []struct {
		name, createdAt string
		known           bool
	}{
		{"seconds", fmt.Sprintf(`"created_at":%d.5`, now.Unix()-100), true},
		{"milliseconds", fmt.Sprintf(`"created_at":%d`, now.UnixMilli()-100_000), true},
		{"nothing", `"x":1`, false},
		{"null", `"created_at":null`, false},
		{"a monotonic clock", `"created_at":86400.5`, false},
		{"ahead", fmt.Sprintf(`"created_at":%d`, now.Unix()+3600), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.push(`{"task_id":"t",` + c.createdAt + `}`)
			defer e.c.Del(e.ctx, e.keys.queue())
			q, err := e.Overview(e.ctx)
			same(t, "error", err, nil)
			list, err := e.Peek(e.ctx, 1)
			same(t, "peek", fmt.Sprint(len(list), err), "1 <nil>")
			for what, age := range map[string]*time.Duration{"oldest": q.Oldest, "peek": list[0].Age} {
				if (age != nil) != c.known || age != nil && (*age < 99*time.Second || *age > time.Hour) {
					t.Errorf("%s: the age is %v", what, age)
				}
			}
		})
	}
	e.push(`{"task_id":"a"}`, fmt.Sprintf(`{"task_id":"b","created_at":%d}`, now.Unix()-100), fmt.Sprintf(`{"task_id":"c","created_at":%d}`, now.Unix()+3600))
	if q, err := e.Overview(e.ctx); err != nil || q.Oldest == nil || *q.Oldest < 99*time.Second {
		t.Errorf("one that tells it beside others that do not: %+v, %v", q, err)
	}
}

// What is looked at every few seconds moves heads and no large record, from the
// queue, from either end of it and from what is in flight.
func TestLargeRecordsAreLookedAtByTheirHeads(t *testing.T) {
	for _, right := range []bool{false, true} {
		both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
			run := e.run("w")
			large := func(id string) string {
				return fmt.Sprintf(`{"task_id":%q,"group_id":"g","created_at":1732335600,"graph":%q}`, id, strings.Repeat("x", 8<<20))
			}
			e.push(large("held"))
			same(t, "claimed", len(e.claim(run, 1)), 1)
			e.push(large("queued"))
			before := e.sent()
			q, err := e.Overview(e.ctx)
			same(t, "overview", fmt.Sprint(q.Depth, q.InFlight, q.Oldest != nil, err), "1 1 true <nil>")
			records, err := e.Peek(e.ctx, 5)
			same(t, "peek", fmt.Sprint(len(records), err), "1 <nil>")
			r := records[0]
			same(t, "queued", fmt.Sprint(r.TaskID, " ", r.GroupID, " ", r.Bytes, " ", len(r.Raw), " ", r.Problem), fmt.Sprint("queued g ", len(large("queued")), " ", maxHead, " "))
			held, err := e.InFlight(e.ctx)
			same(t, "in flight", fmt.Sprint(len(held), err), "1 <nil>")
			same(t, "held", held[0].TaskID+" "+held[0].GroupID, "held g")
			if n := e.sent() - before; n > 1<<20 {
				t.Errorf("Redis sent %d bytes", n)
			}
		})
	}
}

// sent is how many bytes Redis has sent; 0 for a server that does not count them.
func (e *env) sent() int {
	e.t.Helper()
	text, err := e.c.Info(e.ctx, "stats").Result()
	if err != nil {
		e.t.Fatal(err)
	}
	_, text, there := strings.Cut(text, "total_net_output_bytes:")
	if !there {
		return 0
	}
	text, _, _ = strings.Cut(text, "\r")
	n, err := strconv.Atoi(text)
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

func TestInFlight(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push(`{"task_id":"a","group_id":"g"}`, `{"task_id":"b"}`, "rubbish")
		claimed := e.claim(run, 3)
		since := time.Unix(1732335600, 0).UTC()
		e.info(fleet.Run{ID: run, Host: "h", Children: []fleet.Child{{Slot: 2, PID: 77, Tasks: []fleet.Task{
			{TaskID: "b", Delivery: claimed[1].Delivery, Attempt: 2, Since: since},
			{TaskID: "over", Delivery: run + ".99"},
		}}}})
		list, err := e.InFlight(e.ctx)
		same(t, "error", err, nil)
		var got []string
		for _, f := range list {
			slot := -1
			if f.Slot != nil {
				slot = *f.Slot
			}
			got = append(got, fmt.Sprint(f.TaskID, " ", f.State, " ", slot, " ", f.PID, " ", f.Attempt, " ", f.GroupID, " ", f.Host))
		}
		same(t, "in flight", got, []string{"b running 2 77 2  h", "a held -1 0 0 g h", " held -1 0 0  h"})
	})
}

func TestPauseAndOrders(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a, b := e.run("a"), e.run("b")
		same(t, "pause a", e.Pause(e.ctx, a, "me"), nil)
		if noted := e.hash(e.keys.own("paused"))[a]; !strings.Contains(noted, `"by":"me"`) {
			t.Errorf("noted %q", noted)
		}
		same(t, "pause all", e.Pause(e.ctx, fleet.AllRuns, "me"), nil)
		same(t, "a", e.tick(a), TickResult{Paused: true, AllPaused: true})
		same(t, "b", e.tick(b), TickResult{AllPaused: true})
		same(t, "resume all", e.Unpause(e.ctx, fleet.AllRuns), nil)
		same(t, "a still", e.tick(a), TickResult{Paused: true})
		own, all, err := e.Paused(e.ctx, a)
		same(t, "paused", fmt.Sprint(own, all, err), "true false <nil>")

		for i := range chunkCommands + 1 {
			same(t, "order", e.SendCommand(e.ctx, b, fleet.Command{Action: fleet.RestartChild, Slot: i, By: "me"}), nil)
		}
		e.c.RPush(e.ctx, e.keys.own("orders:"+b), "rubbish")
		got := e.tick(b).Commands
		same(t, "orders", fmt.Sprint(len(got), got[7]), fmt.Sprint(chunkCommands, fleet.Command{Action: fleet.RestartChild, Slot: 7, By: "me"}))
		same(t, "the rest", e.tick(b), TickResult{Commands: []fleet.Command{{Action: fleet.RestartChild, Slot: 8, By: "me"}}})
		same(t, "nothing left", e.tick(b), TickResult{})

		same(t, "an order for a", e.SendCommand(e.ctx, a, fleet.Command{Action: fleet.Drain}), nil)
		if ttl := e.c.PTTL(e.ctx, e.keys.own("orders:"+a)).Val(); ttl <= 0 || ttl > commandTTL {
			t.Errorf("an order is kept for %v", ttl)
		}
		e.info(fleet.Run{ID: a})
		same(t, "leave", e.Leave(e.ctx, a), nil)
		same(t, "what is left of it", e.keysUnder("*"+a+"*"), []string{})
		same(t, "pauses", e.hash(e.keys.own("paused")), map[string]string{})
	})
}
