//go:build faults

package faults

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
)

// row is one line of the summary.
type row struct {
	fault      string
	runs       int
	violations int
	worst      time.Duration // slowest recovery; 0: nothing had to recover
	note       string
	own        bool // the row is about Graflow's own worker
}

// summary collects the rows of all tests. It is safe for concurrent use.
type summary struct {
	mu   sync.Mutex
	rows []row
}

var table summary

func (s *summary) add(r row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, r)
}

// verdicts adds up what the second judge found. It is safe for concurrent use.
type verdicts struct {
	mu     sync.Mutex
	total  linear.Result
	worlds int
}

var second verdicts

func (v *verdicts) add(r *linear.Result) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.worlds++
	v.total.Add(r)
}

func (v *verdicts) print(w io.Writer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintf(w, "%v, in %d histories\n", &v.total, v.worlds)
	for _, u := range v.total.Unknown {
		fmt.Fprintf(w, "  unknown: %s\n", u)
	}
}

// order has the first words of faults in the order of the printed table; others come last.
var order = []string{"SIGKILL", "SIGSTOP", "cut", "late", "network", "Redis", "poison", "restart"}

func (r row) rank() int {
	for i, prefix := range order {
		if len(r.fault) >= len(prefix) && r.fault[:len(prefix)] == prefix {
			return i
		}
	}
	return len(order)
}

func (s *summary) print(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.fault, b.fault))
	})
	for _, part := range []struct {
		own   bool
		title string
	}{{false, "sidecar"}, {true, "Graflow's own worker"}} {
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		lines := 0
		fmt.Fprintf(tw, "\n%s: fault\truns\tviolations\tworst recovery\t\n", part.title)
		for _, r := range s.rows {
			if r.own != part.own {
				continue
			}
			lines++
			worst := "-"
			if r.worst > 0 {
				worst = r.worst.Round(10 * time.Millisecond).String()
			}
			fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\n", r.fault, r.runs, r.violations, worst, r.note)
		}
		if lines > 0 {
			_ = tw.Flush() // a summary that cannot be printed fails no test: its reader misses it
		}
	}
}
