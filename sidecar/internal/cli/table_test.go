package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rivo/uniseg"
)

// On a narrow terminal ids that begin alike are shown differently, and what is shown
// names one of them.
func TestIDsOnANarrowTerminal(t *testing.T) {
	const run = "etl-b-production-f6abcdefghijklmnop"
	for _, c := range []struct {
		name string
		ids  []string
		most int // columns of the first one
	}{
		{"dead letters of one run", []string{run + ".1", run + ".2", run + ".12"}, 20},
		{"runs of one worker", []string{"etl-b-production-f6abcdefghijklmnop", "etl-b-production-0123456789abcdefgh"}, 20},
		{"a difference in the middle", []string{run + "X" + run, run + "Y" + run}, 2*len(run) + 1},
		{"short ones", []string{"a", "b"}, 20},
		{"wide characters", []string{strings.Repeat("日本", 20) + ".1", strings.Repeat("日本", 20) + ".2"}, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := make([][]string, len(c.ids))
			for i, id := range c.ids {
				rows[i] = []string{id, strings.Repeat("x", 200)}
			}
			var b bytes.Buffer
			(&printer{w: &b, width: 40}).table([]string{"ID", "TEXT"}, rows)
			lines := strings.Split(strings.TrimSpace(b.String()), "\n")[1:]
			for i, line := range lines {
				shown := strings.Fields(line)[0]
				if w := uniseg.StringWidth(shown); w > c.most {
					t.Errorf("%s takes %d columns", shown, w)
				}
				for j, id := range c.ids {
					if shownAs(id, shown) != (i == j) {
						t.Errorf("%s is taken for %s: %v", shown, id, i != j)
					}
				}
			}
		})
	}
}

// Task ids may have megabytes and differ in their middle only: the column stays narrow,
// and the table is there at once. (One look at each width took minutes for 16 KB.)
func TestLongIDsOnATerminal(t *testing.T) {
	half := strings.Repeat("a", 512<<10)
	if testing.Short() {
		half = half[:32<<10]
	}
	for name, ids := range map[string][]string{
		"a difference in the middle": {half + "x" + half, half + "y" + half},
		"a difference at the end":    {half + half + "x", half + half + "y"},
		"the same":                   {half, half},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			(&printer{w: &b, width: 80}).table([]string{"TASK", "STATE"}, [][]string{{ids[0], "running"}, {ids[1], "running"}})
			lines := strings.Split(strings.TrimSpace(b.String()), "\n")[1:]
			if len(lines) != 2 {
				t.Fatalf("%d lines", len(lines))
			}
			for i, line := range lines {
				shown := strings.Fields(line)[0]
				if w := uniseg.StringWidth(shown); w > mostFirst {
					t.Errorf("%d columns", w)
				}
				if !shownAs(ids[i], shown) {
					t.Errorf("%s does not name its id", shown)
				}
			}
			if distinct := lines[0] != lines[1]; distinct != (name == "a difference at the end") {
				t.Errorf("distinct: %t", distinct)
			}
		})
	}
}

func TestShownAs(t *testing.T) {
	for _, c := range []struct {
		typed string
		want  bool
	}{
		{"worker-f6ab.12", true},
		{"worker-f6", true},
		{"worker…12", true},
		{"worker...12", true},
		{"…ab.12", true},
		{"worker-f6ab.12…", true},
		{"worker-f6ab.12…12", false},
		{"worker…1", false},
		{"orker…12", false},
		{"…", false},
		{"...", false},
		{"", false},
		{"ab.12", false},
	} {
		if got := shownAs("worker-f6ab.12", c.typed); got != c.want {
			t.Errorf("%q: %v", c.typed, got)
		}
	}
}
