package page

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

func TestFailuresKeepTheLastHundred(t *testing.T) {
	var f Failures
	if got := f.since(0); len(got) != 0 {
		t.Errorf("empty: %v", got)
	}
	for n := range 250 {
		f.Add(Failure{TaskID: fmt.Sprint(n), Message: strings.Repeat("é", 5000), Stderr: strings.Repeat("é", 5000) + "last"})
	}
	got := f.since(0)
	if len(got) != 100 || got[0].TaskID != "150" || got[99].TaskID != "249" || got[99].Seq != 250 {
		t.Errorf("%d, from %s to %s", len(got), got[0].TaskID, got[len(got)-1].TaskID)
	}
	if got := f.since(248); len(got) != 2 || got[0].TaskID != "248" {
		t.Errorf("since 248: %v", got)
	}
	one := got[0]
	if len(one.Message) > maxFailureMessage+3 || len(one.Stderr) > maxFailureStderr+3 || !strings.HasSuffix(one.Stderr, "last") {
		t.Errorf("message %d, stderr %d bytes", len(one.Message), len(one.Stderr))
	}
	if !utf8.ValidString(one.Message) || !utf8.ValidString(one.Stderr) {
		t.Error("cut within a character")
	}
}

func TestHistoryIsARing(t *testing.T) {
	var h history
	for n := range int64(kept + 5) {
		h.add(point{At: n})
	}
	got := h.all()
	if len(got) != kept || got[0].At != 5 || got[kept-1].At != kept+4 {
		t.Errorf("%d points from %d to %d", len(got), got[0].At, got[len(got)-1].At)
	}
}

func TestRates(t *testing.T) {
	began := time.Unix(1_800_000_000, 0)
	at := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	run := func(id string, since time.Time, done, failed int64) fleet.Run {
		return fleet.Run{ID: id, Since: since, Completed: done, Failed: failed}
	}
	old := began.Add(-time.Hour)
	for _, c := range []struct {
		name  string
		steps [][]fleet.Run // a second apart
		want  []float64     // done, -1 for none
	}{
		{"nothing to compare with", [][]fleet.Run{{run("a", old, 500, 0)}}, []float64{-1}},
		{"steady", [][]fleet.Run{{run("a", old, 500, 0)}, {run("a", old, 510, 1)}, {run("a", old, 520, 2)}}, []float64{-1, 10, 10}},
		{"every other second", [][]fleet.Run{{run("a", old, 0, 0)}, {run("a", old, 0, 0)}, {run("a", old, 20, 0)}, {run("a", old, 20, 0)}, {run("a", old, 40, 0)}}, []float64{-1, 0, 10, 20. / 3, 10}},
		{"one that was not seen is no burst", [][]fleet.Run{{}, {run("a", old, 5000, 0)}, {run("a", old, 5002, 0)}}, []float64{-1, 0, 1}},
		{"one that began meanwhile counts from nothing", [][]fleet.Run{{}, {run("a", at(0.5), 4, 0)}}, []float64{-1, 4}},
		{"one that is gone takes nothing back", [][]fleet.Run{{run("a", old, 100, 0)}, {run("a", old, 110, 0)}, {}}, []float64{-1, 10, 5}},
		{"a counter that went back is no negative rate", [][]fleet.Run{{run("a", old, 100, 0)}, {run("a", old, 3, 0)}}, []float64{-1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m meter
			for i, runs := range c.steps {
				done, failed := m.add(at(float64(i)), runs)
				got := -1.
				if done != nil {
					got = *done
				}
				if (done == nil) != (failed == nil) || got < c.want[i]-1e-9 || got > c.want[i]+1e-9 {
					t.Errorf("after %d s: %v, want %v", i, got, c.want[i])
				}
			}
		})
	}
	var m meter
	m.add(at(0), []fleet.Run{run("a", old, 0, 0)})
	m.add(at(1), []fleet.Run{run("a", old, 10, 0)})
	if done, _ := m.add(at(60), []fleet.Run{run("a", old, 9999, 0)}); done != nil {
		t.Errorf("a rate of %v over a minute without a viewer", *done)
	}
}

func TestTextIsCutBetweenCharacters(t *testing.T) {
	for _, c := range []struct{ in, head, tail string }{
		{"short", "short", "short"},
		{"ééééé", "éé…", "…éé"},
		{"abcdef", "abcde…", "…bcdef"},
	} {
		if got := head(c.in, 5); got != c.head {
			t.Errorf("head %q, want %q", got, c.head)
		}
		if got := tail(c.in, 5); got != c.tail {
			t.Errorf("tail %q, want %q", got, c.tail)
		}
	}
}

func TestAnAgeThatIsNotKnownIsNotSent(t *testing.T) {
	for _, c := range []struct {
		oldest *int64
		has    string
	}{{nil, ""}, {new(int64(0)), `"oldest":0`}, {new(int64(1500)), `"oldest":1500`}} {
		text, err := json.Marshal(now{Queue: fleet.Queue{Depth: 1, Oldest: new(time.Hour)}, Oldest: c.oldest})
		if err != nil || strings.Contains(string(text), `"oldest"`) != (c.has != "") || !strings.Contains(string(text), c.has) {
			t.Errorf("%s, %v, want %q", text, err, c.has)
		}
	}
}
