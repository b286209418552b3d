package redis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// letterAt stores a dead letter of an age, as report.lua does.
func (e *env) letterAt(id string, at int64) {
	e.t.Helper()
	key := e.keys.own("dead")
	if err := e.c.ZAdd(e.ctx, key, goredis.Z{Score: float64(at), Member: id}).Err(); err != nil {
		e.t.Fatal(err)
	}
	if err := e.c.HSet(e.ctx, key+":"+id, "raw", id, "reason", "r").Err(); err != nil {
		e.t.Fatal(err)
	}
}

// letters returns the ids of the dead letters, the oldest first, and demands that each has
// its content and that there is no other content.
func (e *env) letters() []string {
	e.t.Helper()
	ids := e.c.ZRange(e.ctx, e.keys.own("dead"), 0, -1).Val()
	var contents []string
	for _, id := range ids {
		contents = append(contents, e.keys.own("dead:"+id))
	}
	slices.Sort(contents)
	same(e.t, "contents", e.keysUnder(":sidecar:dead:*"), append([]string{}, contents...))
	return ids
}

// The oldest letters are deleted, in bounded steps, until the number and the age are kept;
// the newest stay.
func TestTrimDead(t *testing.T) {
	const n = 2*chunkTrimmed + 30
	for _, c := range []struct {
		name  string
		most  int
		age   time.Duration
		steps [][2]int // deleted because of the number, and of the age
		kept  int
	}{
		{"no bound", 0, 0, [][2]int{{0, 0}}, n},
		{"as many as are kept", n, 0, [][2]int{{0, 0}}, n},
		{"one more", n - 1, 0, [][2]int{{1, 0}, {0, 0}}, n - 1},
		{"many more", 20, 0, [][2]int{{100, 0}, {100, 0}, {10, 0}, {0, 0}}, 20},
		{"a full step", n - 100, 0, [][2]int{{100, 0}, {0, 0}}, n - 100},
		{"old", 0, 500 * time.Hour, [][2]int{{0, 0}}, n},
		{"some are old", 0, 130*time.Hour - time.Minute, [][2]int{{0, 100}, {0, 1}, {0, 0}}, 129},
		{"a millisecond", 0, time.Millisecond, [][2]int{{0, 100}, {0, 100}, {0, 30}, {0, 0}}, 0},
		{"all are old", 0, time.Minute, [][2]int{{0, 100}, {0, 100}, {0, 30}, {0, 0}}, 0},
		{"both", 180, 100*time.Hour + time.Minute, [][2]int{{50, 50}, {0, 30}, {0, 0}}, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{DeadLetterMax: c.most, DeadLetterMaxAge: c.age}, func(t *testing.T, e *env) {
				now, err := e.Time(e.ctx)
				if err != nil {
					t.Fatal(err)
				}
				var all []string
				for i := range n { // the last one is an hour old
					id := fmt.Sprintf("r-%04d.1", i)
					e.letterAt(id, now.Add(time.Duration(i-n)*time.Hour).UnixMilli())
					all = append(all, id)
				}
				for step, want := range c.steps {
					got, err := e.TrimDead(e.ctx)
					if err != nil {
						t.Fatal(err)
					}
					same(t, fmt.Sprint("step ", step), got, Trimmed{Many: want[0], Old: want[1], More: want[0]+want[1] == chunkTrimmed})
				}
				same(t, "kept", e.letters(), append([]string{}, all[n-c.kept:]...))
			})
		})
	}
}

// Whatever is written, requeued, dropped and deleted, in any order: no more letters stay
// than are kept, the newest stay, and each has its record.
func TestTrimDeadKeepsTheNewest(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		most := 1 + rnd.IntN(5)
		e := onModel(t, Options{DeadLetterMax: most, DeadLetterMaxAge: time.Hour})
		run := e.run("w")
		type entry struct {
			id string
			at int64
		}
		var letters []entry
		now := time.Now()
		for i := range 30 {
			switch k := rnd.IntN(4); {
			case k < 2:
				at := now.Add(-time.Duration(rnd.IntN(90)) * time.Minute).Add(-time.Duration(i) * time.Millisecond)
				c := e.claimOne(run, fmt.Sprint("record ", i))
				r := Report{Delivery: c.Delivery, Dead: &DeadLetter{Reason: "r", At: at}}
				same(t, "verdict", e.report(run, r), []Verdict{Dead})
				letters = append(letters, entry{c.Delivery, at.UnixMilli()})
				continue
			case k == 2 && len(letters) > 0:
				at := rnd.IntN(len(letters))
				if id := letters[at].id; rnd.IntN(2) == 0 {
					e.requeue(id, false)
					e.c.Del(e.ctx, e.keys.queue())
				} else if _, err := e.Drop(e.ctx, id); err != nil {
					t.Fatal(err)
				}
				letters = slices.Delete(letters, at, at+1)
			}
			got, err := e.TrimDead(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(letters, func(a, b entry) int { return int(a.at - b.at) })
			before := len(letters)
			letters = letters[max(0, before-most):]
			letters = slices.DeleteFunc(letters, func(l entry) bool { return l.at <= now.Add(-time.Hour).UnixMilli() })
			same(t, fmt.Sprint("seed ", seed, ": deleted"), got.Many+got.Old, before-len(letters))
			want := []string{}
			for _, l := range letters {
				want = append(want, l.id)
			}
			same(t, fmt.Sprint("seed ", seed, ": letters"), append([]string{}, e.letters()...), want)
		}
	}
}

// A key of another type, and a format that the caller does not know, change nothing.
func TestTrimDeadRefusals(t *testing.T) {
	for _, key := range []string{"dead", "clock", "format"} {
		t.Run(key, func(t *testing.T) {
			both(t, Options{DeadLetterMax: 1}, func(t *testing.T, e *env) {
				for i := range 3 {
					e.letterAt(fmt.Sprint("r.", i), int64(i))
				}
				e.c.Del(e.ctx, e.keys.own(key))
				e.set(e.keys.own(key), "1000")
				if _, err := e.TrimDead(e.ctx); err == nil {
					t.Error("no error")
				}
				same(t, "letters", len(e.keysUnder(":sidecar:dead:*")), 3)
			})
		})
	}
}

// A tick tells that there are too many or too old letters, at a check of the members.
func TestTickTellsOfTooManyLetters(t *testing.T) {
	for _, c := range []struct {
		name        string
		most, age   int64
		letters     []int64 // their times, after the beginning
		at          int64
		spoil, want bool
	}{
		{"no bound", 0, 0, []int64{0, 0, 0}, 1 << 40, false, false},
		{"as many", 3, 0, []int64{1, 2, 3}, 0, false, false},
		{"one more", 2, 0, []int64{1, 2, 3}, 0, false, true},
		{"not old enough", 0, 1000, []int64{1, 2}, 1000, false, false},
		{"old enough", 0, 1000, []int64{1, 2}, 1001, false, true},
		{"a millisecond", 0, 1, []int64{1, 9}, 2, false, true},
		{"none", 1, 1, nil, 5, false, false},
		{"another type", 1, 1, []int64{1, 2}, 5000, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newTicker(t)
			self := k.run("self")
			k.args[22], k.args[23] = c.most, c.age
			for i, at := range c.letters {
				k.letterAt(fmt.Sprint("r.", i), tickerBegin+at)
			}
			if c.spoil {
				k.c.Del(k.ctx, k.keys.own("dead"))
				k.set(k.keys.own("dead"), "x")
			}
			same(t, "at a check", k.at(self, c.at)[tickTrim] == int64(1), c.want)
			same(t, "between two", k.at(self, c.at+499)[tickTrim], any(int64(0)))
		})
	}
}

// A Store asks for its own bounds.
func TestTickTrimsByTheOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want bool
	}{
		{Options{}, false},
		{Options{DeadLetterMax: 2}, false},
		{Options{DeadLetterMax: 1}, true},
		{Options{DeadLetterMaxAge: 25 * time.Hour}, false},
		{Options{DeadLetterMaxAge: 23 * time.Hour}, true},
	} {
		both(t, c.o, func(t *testing.T, e *env) {
			run := e.run("w")
			now, err := e.Time(e.ctx)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 2 {
				e.letterAt(fmt.Sprint("r.", i), now.Add(-24*time.Hour).UnixMilli())
			}
			got, err := e.Tick(e.ctx, run, nil, "")
			if err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprintf("%+v", c.o), got.TrimDead, c.want)
		})
	}
}
