package rpc

import (
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

// safe runs f, on a goroutine of the pool. A panic in it is a bug of ours: the
// stage then stops as if it had been asked to, and Run returns the panic, so
// that the stages after it still report and hand back what they can.
func (p *Pool) safe(f func()) {
	if err := recoverpanic.Do(func() error { f(); return nil }); err != nil {
		p.fail(err)
	}
}

// fail ends Run with an error; the first one counts.
func (p *Pool) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
	p.stop()
}

// born notes a process that was started, so that sweep finds it.
func (p *Pool) born(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.live {
		if other.detached.Load() {
			delete(p.live, other)
		}
	}
	p.live[c] = struct{}{}
}

// sweep ends the processes whose keepers panicked. What they held stays in
// flight and goes back with the lease. Only when all keepers have returned.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.live {
		if c.detached.Load() {
			continue
		}
		c.out.close()
		c.proc.Signal(syscall.SIGKILL)
		<-c.proc.Exited()
		c.detach()
		c.endAllRequests()
		select {
		case <-c.over:
		default:
			close(c.over)
		}
	}
	clear(p.live)
	clear(p.children)
}
