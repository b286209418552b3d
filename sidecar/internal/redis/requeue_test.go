package redis

import (
	"fmt"
	"slices"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

// The failure of a dead letter is taken back from its group's barrier only while that waits,
// certainly includes it, and the completion is a failure. Otherwise the letter stays, unless
// it is forced.
func TestRequeueAtTheBarrier(t *testing.T) {
	const failure = `{"task_id":"t","success":false}`
	type state struct {
		expected, counter string
		today, yesterday  []string // counted
		completion        string
	}
	this, other := "t\x001", "u\x001"
	for _, c := range []struct {
		name    string
		state   state
		want    string
		counter string // afterwards
	}{
		{"counted today", state{"3", "2", []string{this, other}, nil, failure}, "requeued", "1"},
		{"counted yesterday", state{"3", "2", []string{other}, []string{this}, failure}, "requeued", "1"},
		{"never counted", state{"3", "1", []string{other}, nil, ""}, "requeued", "1"},
		{"never counted, no counter", state{"3", "", nil, nil, ""}, "requeued", ""},
		{"counted long ago", state{"3", "1", nil, nil, failure}, "requeued", "0"},
		{"counted long ago, and others today", state{"3", "2", []string{other}, nil, failure}, "requeued", "1"},
		{"created again, and counted long ago", state{"3", "0", nil, nil, failure}, "counted", "0"},
		{"a success long ago", state{"3", "1", nil, nil, `{"success":true}`}, "counted", "1"},
		{"never counted, completions of another type", state{"3", "1", nil, nil, "list"}, "requeued", "1"},
		{"no barrier", state{"", "1", []string{this}, nil, failure}, "group-over", "1"},
		{"a barrier of text", state{"3x", "1", []string{this}, nil, failure}, "group-over", "1"},
		{"full", state{"3", "3", []string{this}, nil, failure}, "group-over", "3"},
		{"a counter of text", state{"3", "x", []string{this}, nil, failure}, "group-over", "x"},
		{"created again", state{"3", "1", []string{this, other}, nil, failure}, "counted", "1"},
		{"created again yesterday", state{"3", "1", []string{this}, []string{other}, failure}, "counted", "1"},
		{"no completion", state{"3", "1", []string{this}, nil, ""}, "counted", "1"},
		{"a success", state{"3", "1", []string{this}, nil, `{"success":true}`}, "counted", "1"},
		{"barrier of another type", state{"list", "1", []string{this}, nil, failure}, "group-over", "1"},
		{"counter of another type", state{"3", "list", []string{this}, nil, failure}, "group-over", ""},
		{"today's set of another type", state{"3", "1", []string{"list"}, []string{this}, failure}, "counted", "1"},
		{"yesterday's set of another type", state{"3", "1", []string{this}, []string{"list"}, failure}, "counted", "1"},
		{"completions of another type", state{"3", "1", []string{this}, nil, "list"}, "counted", "1"},
	} {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, force), func(t *testing.T) {
				both(t, Options{}, func(t *testing.T, e *env) {
					barrier, completions := e.o.Prefix+":barrier:g", e.o.Prefix+":completions:g"
					set := func(key, value string) {
						switch value {
						case "":
						case "list":
							e.c.RPush(e.ctx, key, "x")
						default:
							e.set(key, value)
						}
					}
					set(barrier+":expected", c.state.expected)
					set(barrier, c.state.counter)
					for days, members := range [][]string{c.state.today, c.state.yesterday} {
						for _, m := range members {
							if m == "list" {
								set(e.countedSet(int64(days)), m)
							} else {
								e.c.SAdd(e.ctx, e.countedSet(int64(days)), m)
							}
						}
					}
					if c.state.completion == "list" {
						set(completions, "list")
					} else if c.state.completion != "" {
						e.c.HSet(e.ctx, completions, "t", c.state.completion)
					}
					e.push("first")
					e.c.HSet(e.ctx, e.keys.own("attempts"), RecordSHA([]byte("r")), "3:run")
					e.c.ZAdd(e.ctx, e.keys.own("attempts:at"), goredis.Z{Score: 1, Member: RecordSHA([]byte("r"))})
					e.c.HSet(e.ctx, e.keys.own("dead:d"), "raw", "r", "task_id", "t", "group_id", "g", "counted_as", this)
					e.c.ZAdd(e.ctx, e.keys.own("dead"), goredis.Z{Score: 1, Member: "d"})

					got, err := e.Requeue(e.ctx, "d", force)
					if err != nil {
						t.Fatal(err)
					}
					want := c.want
					if force {
						want = "requeued"
					}
					same(t, "result", got, want)
					if c.state.counter != "list" {
						same(t, "counter", e.counter("g"), c.counter)
					}
					if c.want == "requeued" {
						for days := range int64(2) {
							if slices.Contains(e.c.SMembers(e.ctx, e.countedSet(days)).Val(), this) {
								t.Error("the task is still counted")
							}
						}
						same(t, "completions", e.c.HExists(e.ctx, completions, "t").Val(), false)
					}
					if want == "requeued" {
						same(t, "queue", e.queue(), []string{"first", "r"})
						same(t, "the letter", e.keysUnder(":sidecar:dead*"), []string{})
						same(t, "attempts", e.keysUnder(":sidecar:attempts*"), []string{})
					} else {
						same(t, "queue", e.queue(), []string{"first"})
						same(t, "letters", e.c.ZCard(e.ctx, e.keys.own("dead")).Val(), 1)
						same(t, "its record", e.hash(e.keys.own("dead:d"))["raw"], "r")
					}
				})
			})
		}
	}
}

// A group may take days. A dead letter that its barrier counted days ago was once counted
// again.
func TestRequeueOfWhatWasCountedDaysAgo(t *testing.T) {
	const task = "t\x001"
	for days := range 15 {
		t.Run(fmt.Sprint("days=", days), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				e.barrier("g", 3)
				e.set(e.o.Prefix+":barrier:g", "1")
				e.c.HSet(e.ctx, e.o.Prefix+":completions:g", "t", `{"success":false}`)
				e.c.SAdd(e.ctx, e.countedSet(int64(days)), task)
				e.c.HSet(e.ctx, e.keys.own("dead:d"), "raw", "r", "task_id", "t", "group_id", "g", "counted_as", task)
				got, err := e.Requeue(e.ctx, "d", false)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "result", got, "requeued")
				same(t, "counter", e.counter("g"), "0")
			})
		})
	}
}

// A set of counted tasks that no report continues any more does not decide a requeue.
func TestRequeueLooksBackTwoWeeks(t *testing.T) {
	const task = "t\x001"
	for days, want := range map[int64]string{12: "counted", 13: "counted", 14: "requeued"} {
		t.Run(fmt.Sprint("days=", days), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				e.barrier("g", 3)
				e.set(e.o.Prefix+":barrier:g", "1") // without a completion, the failure cannot be undone
				e.c.SAdd(e.ctx, e.countedSet(days), task)
				e.c.HSet(e.ctx, e.keys.own("dead:d"), "raw", "r", "task_id", "t", "group_id", "g", "counted_as", task)
				got, err := e.Requeue(e.ctx, "d", false)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "result", got, want)
			})
		})
	}
}

// Requeue treats a letter without a record, or with an entry of another type, as missing.
func TestRequeueOfNoLetter(t *testing.T) {
	both(t, Options{QueueRight: true}, func(t *testing.T, e *env) {
		e.c.ZAdd(e.ctx, e.keys.own("dead"), goredis.Z{Score: 1, Member: "a"}, goredis.Z{Score: 1, Member: "b"}, goredis.Z{Score: 1, Member: "c"})
		e.c.HSet(e.ctx, e.keys.own("dead:a"), "task_id", "t")
		e.set(e.keys.own("dead:b"), "x")
		e.c.HSet(e.ctx, e.keys.own("dead:c"), "raw", "r") // of a record without a task
		e.push("first")
		for id, want := range map[string]string{"a": "no-such-dead-letter", "b": "no-such-dead-letter", "c": "requeued", "d": "no-such-dead-letter"} {
			got, err := e.Requeue(e.ctx, id, false)
			if err != nil {
				t.Fatal(err)
			}
			same(t, id, got, want)
		}
		same(t, "letters", e.c.ZRange(e.ctx, e.keys.own("dead"), 0, -1).Val(), []string{"b"})
		same(t, "queue", e.queue(), []string{"r", "first"})
	})
}

// A letter of a version that did not store as what its task is counted was never counted.
func TestRequeueOfALetterWithoutAName(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		e.barrier("g", 2)
		e.c.SAdd(e.ctx, e.countedSet(0), "u\x001")
		e.c.HSet(e.ctx, e.keys.own("dead:d"), "raw", "r", "task_id", "t", "group_id", "g")
		got, err := e.Requeue(e.ctx, "d", false)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "result", got, "requeued")
	})
}
