package spelling

import (
	"slices"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"same", "same", 0}, {"ab", "ba", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"redis-back", "redis-lost", "task-lost"}
	for _, c := range []struct {
		name string
		n    int
		want []string
	}{
		{"redis-lots", 1, []string{"redis-lost"}},
		{"task-lots", 2, []string{"task-lost", "redis-lost"}},
		{"", 9, []string{"task-lost", "redis-back", "redis-lost"}},
		{"x", 0, nil},
	} {
		if got := Nearest(c.name, names, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%d names near %q: %v, want %v", c.n, c.name, got, c.want)
		}
	}
	if got := Nearest("x", nil, 1); len(got) != 0 {
		t.Errorf("of no names: %v", got)
	}
}

func TestNear(t *testing.T) {
	names := []string{"status", "tasks", "max-concurrent-tasks"}
	for _, c := range []struct{ name, want string }{
		{"stauts", "status"},
		{"task", "tasks"},
		{"max-conccurent-taskss", "max-concurrent-tasks"},
		{"x", ""},
		{"", ""},
		{"stop", ""},
		{"max-tasks-at-once", ""},
	} {
		if got, ok := Near(c.name, names); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.name, got, ok, c.want)
		}
	}
	if got, ok := Near("x", nil); ok {
		t.Errorf("of no names: %q", got)
	}
}
