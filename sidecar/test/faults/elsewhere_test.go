//go:build faults

package faults

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestTwoServersAtOneAddress leads new connections to a Redis that knows nothing of the
// sidecar, for 4 s, while tasks run. It cuts the connections of claims and reports, or all of
// them. Every record runs once, or once more where the lease met the other server, too.
func TestTwoServersAtOneAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		cut   []string // an old connection is cut at these commands
		lease bool     // the lease meets the other server, too
	}{
		{"claims and reports", []string{"claim", "BLMOVE", "report", "release"}, false},
		{"waits", []string{"BLMOVE"}, false},
		{"all connections", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			other := redistest.Start(t)
			p := w.newProxy(w.server.Addr)
			cut := &astray{cutter: cutter{names: scripts(t)}, at: c.cut}
			p.SetRule(cut.rule)
			s := w.crew(1, setup{proxy: p})[0]
			const turns = 2
			for range turns {
				rs := w.work(6, 100)
				rs[0].Ms, rs[1].Ms = 500, 2500 // one ends while connections lead to the other server
				w.group(rs...)
				wait.Within(t, 10*time.Second, "tasks in flight", func() bool {
					held, err := w.heldBy(s.id)
					return err == nil && len(held) > 0
				})
				w.hurt("new connections lead to another server: " + c.name)
				p.SetUpstream(other.Addr)
				if c.lease {
					w.again++
					p.Reset()
				} else {
					cut.before(len(p.Accepted()))
				}
				for range 4 {
					wait.Pass(time.Second)
					w.one(record{})
				}
				p.SetUpstream(w.server.Addr)
				if c.lease {
					p.Reset() // connections to the other server would go on otherwise
				}
				back := time.Now()
				w.one(record{})
				w.goesOn(back)
			}
			switch told := strings.Count(s.text(), `"two redis servers answer`); {
			case c.lease:
			case s.says("lease lost"):
				// The machine was so slow that the lease has made a new connection.
				t.Log("the lease has met the other server, too")
				w.again = turns
			case told < 1 || told > turns:
				w.violation("the log tells of two servers %d times, in %d turns", told, turns)
			}
			w.verify("Redis is another one for 4 s: " + c.name)
		})
	}
}

// astray cuts connections that were made before a given one, at some commands.
type astray struct {
	cutter
	at []string

	mu  sync.Mutex
	old int // the last connection that counts as old
}

func (a *astray) before(conn int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.old = conn
}

func (a *astray) rule(cmd faultproxy.Command) faultproxy.Verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	if cmd.Conn <= a.old && slices.Contains(a.at, a.name(cmd)) {
		return faultproxy.Verdict{Action: faultproxy.CutBefore}
	}
	return faultproxy.Verdict{}
}
