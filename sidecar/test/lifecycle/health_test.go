//go:build lifecycle

package lifecycle

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// tally counts the commands that pass a proxy, and decides on each.
type tally struct {
	mu     sync.Mutex
	counts map[string]int
	pings  map[int]bool // connections that were pinged
	decide func(faultproxy.Command) faultproxy.Action
}

func (c *tally) rule(cmd faultproxy.Command) faultproxy.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[cmd.Name]++
	if cmd.Name == "PING" {
		c.pings[cmd.Conn] = true
	}
	if c.decide == nil {
		return faultproxy.Verdict{}
	}
	return faultproxy.Verdict{Action: c.decide(cmd)}
}

// reset begins to count anew.
func (c *tally) reset(decide func(faultproxy.Command) faultproxy.Action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts, c.pings, c.decide = make(map[string]int), make(map[int]bool), decide
}

func (c *tally) of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[name]
}

func (c *tally) pinged() (conns []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.pings {
		conns = append(conns, conn)
	}
	slices.Sort(conns)
	return conns
}

func tallied(t *testing.T) (*bench, *faultproxy.Proxy, *tally) {
	t.Helper()
	b, proxy := proxied(t)
	c := &tally{}
	c.reset(nil)
	proxy.SetRule(c.rule)
	return b, proxy, c
}

// handshake is what go-redis says on a new connection.
func handshake(cmd faultproxy.Command) bool {
	return slices.Contains([]string{"HELLO", "AUTH", "SELECT", "CLIENT"}, cmd.Name)
}

// TestConnectionHealthChecks is the second point of the analysis: pings at an
// interval; a loss and a return are said once; while the connection is known to
// be dead nothing but pings is tried, with growing pauses; and during a stop it
// is no error.
func TestConnectionHealthChecks(t *testing.T) {
	t.Parallel()
	b, proxy, c := tallied(t)
	s := b.sidecar("SIDECAR_REDIS_PING_INTERVAL=200ms", "SIDECAR_SHUTDOWN_TIMEOUT=3s")
	s.ready()
	wait.Until(t, "both workers", func() bool { return strings.Count(s.log.String(), `"worker ready"`) == 2 })

	c.reset(nil)
	wait.Pass(2 * time.Second)
	if n := c.of("PING"); n < 5 || n > 12 {
		t.Errorf("%d pings in 2 s at an interval of 200 ms", n)
	}

	// Connections are made, and die with whatever is asked of them.
	before := len(s.log.String())
	c.reset(func(cmd faultproxy.Command) faultproxy.Action {
		if handshake(cmd) {
			return faultproxy.Pass
		}
		return faultproxy.CutBefore
	})
	proxy.Reset()
	b.push(job{TaskID: "meanwhile"})
	wait.Pass(4 * time.Second)
	c.mu.Lock()
	for name, n := range c.counts {
		// What each of three loops was about to say when the loss was not
		// known yet.
		if name != "PING" && !handshake(faultproxy.Command{Name: name}) && n > 3 {
			t.Errorf("%s was sent %d times while redis was known to be away", name, n)
		}
	}
	// 25 to 50 ms apart at first, 250 to 500 ms at last.
	if n := c.counts["PING"]; n < 7 || n > 24 {
		t.Errorf("%d pings in 4 s of an outage", n)
	}
	c.mu.Unlock()
	said := lines(t, s.log.String()[before:])
	if len(said) != 1 || said[0].Msg != "redis is lost, waiting for it" || !strings.Contains(said[0].text, `"class":"conn_`) {
		t.Errorf("it said: %v", said)
	}

	c.reset(nil)
	back := time.Now()
	wait.Until(t, "the task from meanwhile", func() bool { return b.done("meanwhile") })
	if d := machine.Since(back); d > time.Second {
		t.Errorf("work went on after %v", d)
	}
	if n := strings.Count(s.log.String(), `"redis is back"`); n != 1 {
		t.Errorf("its return was said %d times", n)
	}

	c.reset(func(faultproxy.Command) faultproxy.Action { return faultproxy.CutBefore })
	s.terminate(4 * time.Second)
	s.silent()
}

// TestConnectionPooling is the fifth point for the sidecar's own client: few
// connections, used again; idle ones are checked, and one that died in silence
// is replaced before an operation needs it. (The Python adapter's client has a
// test of the same name.)
func TestConnectionPooling(t *testing.T) {
	t.Parallel()
	b, proxy, c := tallied(t)
	s := b.sidecar("SIDECAR_REDIS_POOL_SIZE=3", "SIDECAR_REDIS_MIN_IDLE_CONNS=3",
		"SIDECAR_REDIS_HEALTH_CHECK_INTERVAL=1s", "SIDECAR_REDIS_PING_INTERVAL=500ms")
	first := names("first", 20)
	b.push(jobs(first...)...)
	wait.Until(t, "the first results", func() bool { return b.done(first...) })

	opened := len(proxy.Accepted())
	many := names("many", 500)
	b.push(jobs(many...)...)
	wait.Until(t, "500 results", func() bool { return b.done(many...) })
	// Three pools: at most 3 for reports, one that claims and one that ends its
	// wait, one for the lease and one for pings.
	if n := len(proxy.Accepted()); n > 7 || n-opened > 2 {
		t.Errorf("%d connections in all, %d of them for 500 more tasks", n, n-opened)
	}

	c.reset(nil)
	wait.Until(t, "a ping on every idle connection", func() bool { return len(c.pinged()) >= 3 })
	idle := c.pinged()
	lost := idle[0] // to the last, which may be the lease's; each is replaced
	c.reset(func(cmd faultproxy.Command) faultproxy.Action {
		if cmd.Conn == lost {
			return faultproxy.Swallow // it is open, and nothing comes back
		}
		return faultproxy.Pass
	})
	wait.Until(t, "the end of one that is silent", func() bool { return !proxy.IsOpen(lost) })
	began := time.Now()
	b.push(job{TaskID: "after"})
	wait.Until(t, "a task after that", func() bool { return b.done("after") })
	if d := machine.Since(began); d > time.Second {
		t.Errorf("it took %v", d)
	}
	if s.says(`"redis is lost`) {
		t.Error("an idle connection that died was taken for an outage")
	}
	s.terminate(2 * time.Second)
	s.silent()
}
