package gomutant

import (
	"slices"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		body, changed string
		mutants       []string
	}{
		{"if a {}", "if mutateCond(7, a) {}", []string{"a => true", "a => false"}},
		{"for a < 1 {}", `for mutateCond(7, mutateOrder(9, "<", a , 1)) {}`, []string{"a < 1 => true", "a < 1 => false", "< => <="}},
		{"x = !(a || b.c())", "x = !(mutateCond(7, a) || mutateCond(9, b.c()))", []string{"a => true", "a => false", "b.c() => true", "b.c() => false"}},
		{"if !a {}", "if mutateCond(7, !a) {}", []string{"!a => true", "!a => false"}},
		{"switch { case a, b == 1: default: }", "switch { case mutateCond(7, a), mutateCond(9, b == 1): default: }", []string{"a => true", "a => false", "b == 1 => true", "b == 1 => false"}},
		{"switch a { case b: }", "switch mutateTag := a; { case mutateCond(7, mutateTag == b): }", []string{"b => true", "b => false"}},
		{
			"if f(func() bool { return a && b }) {}", "if mutateCond(7, f(func() bool { return mutateCond(9, a) && mutateCond(11, b) })) {}",
			[]string{"f(func() bool { return a && b }) => true", "f(func() bool { return a && b }) => false", "a => true", "a => false", "b => true", "b => false"},
		},
		{"for {}", "for {}", nil},
		{"const c = a && b", "const c = a && b", nil},
	} {
		head := "package p\n\nfunc f() {\n"
		mutants, changed, err := Of("p.go", head+c.body+"\n}\n", 7)
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		if got := strings.TrimSuffix(strings.TrimPrefix(changed, head), "\n}\n"); got != c.changed {
			t.Errorf("%s:\n got %s\nwant %s", c.body, got, c.changed)
		}
		var got []string
		for _, m := range mutants {
			got = append(got, m.Change())
		}
		if !slices.Equal(got, c.mutants) {
			t.Errorf("%s:\n got %q\nwant %q", c.body, got, c.mutants)
		}
	}
}
