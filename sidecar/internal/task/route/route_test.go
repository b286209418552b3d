package route_test

import (
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern string
		yes, no []string
	}{
		{"*", []string{"", "a", "é.*\n"}, nil},
		{"etl.*", []string{"etl.", "etl.clean", "etl.é"}, []string{"etl", "etlx", "xetl.a", ""}},
		{"*.clean", []string{"a.clean", ".clean", "a.clean.clean"}, []string{"clean", "a.cleaned"}},
		{"a*b*c", []string{"abc", "aXbYc", "abcbc"}, []string{"ac", "abcb", "acb"}},
		{"a*a", []string{"aa", "aba"}, []string{"a"}},
		{"**", []string{"", "x"}, nil},
		{"a?c", []string{"abc", "aéc", "a😀c", "a?c"}, []string{"ac", "abbc", "ae\u0301c"}},
		{"?", []string{"x", "é"}, []string{"", "xy"}},
		{"*?x", []string{"ax", "ééx", "xx"}, []string{"x"}},
		{"??*", []string{"ab", "äöü"}, []string{"a"}},
		{`a\*`, []string{"a*"}, []string{"ab", `a\*`}},
		{`\?\\\a`, []string{`?\a`}, []string{`x\a`}},
		{"[a-z]+.%d$^()", []string{"[a-z]+.%d$^()"}, []string{"b"}},
		{"Größe", []string{"Größe"}, []string{"größe", "Grosse"}},
	} {
		p, err := route.Parse(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != c.pattern {
			t.Errorf("%q is shown as %q", c.pattern, p)
		}
		for _, id := range c.yes {
			if !p.Match(id) {
				t.Errorf("%q does not fit %q", id, c.pattern)
			}
		}
		for _, id := range c.no {
			if p.Match(id) {
				t.Errorf("%q fits %q", id, c.pattern)
			}
		}
	}
}

// A pattern of many stars must not take for ever.
func TestMatchTakesNoTime(t *testing.T) {
	p, err := route.Parse(strings.Repeat("*a", 60) + "b")
	if err != nil {
		t.Fatal(err)
	}
	if p.Match(strings.Repeat("a", 20_000)) {
		t.Error("fits")
	}
}

func TestParseAll(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		want     string
	}{
		{[]string{"etl.*", "ml.*", "*"}, ""},
		{[]string{"a", "a*", "*a"}, ""},
		{[]string{""}, "a pattern is empty; * takes every task"},
		{[]string{"a\\"}, `ends in a backslash`},
		{[]string{"a\nb"}, "control character"},
		{[]string{"a\xff"}, "not UTF-8"},
		{[]string{strings.Repeat("x", 257)}, "has 257 bytes, and may have 256"},
		{[]string{"a.*", "b", "a.*"}, `pattern "a.*" is there twice`},
		{[]string{"*", "a"}, `pattern "a" stands behind "*", which takes every task: put it first`},
		{[]string{"a", "**", "b"}, `pattern "b" stands behind "**"`},
	} {
		list, err := route.ParseAll(c.patterns)
		switch {
		case c.want == "" && (err != nil || len(list) != len(c.patterns)):
			t.Errorf("%q: %v", c.patterns, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: got %v, want %q", c.patterns, err, c.want)
		}
	}
}

func TestFind(t *testing.T) {
	list, err := route.ParseAll([]string{"etl.*", "*.clean", "x"})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]int{"etl.clean": 0, "ml.clean": 1, "x": 2, "y": -1} {
		if got := route.Find(list, id); got != want {
			t.Errorf("%q: %d, want %d", id, got, want)
		}
	}
}
