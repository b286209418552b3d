package requests

import (
	"context"
	"sync"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// Counter counts the tasks with an unanswered request. Its methods may be called
// concurrently.
type Counter struct {
	rpc.Requests

	mu   sync.Mutex
	open map[string]int // unanswered requests by delivery
}

// NewCounter returns a Counter of the requests that r serves.
func NewCounter(r rpc.Requests) *Counter { return &Counter{Requests: r, open: make(map[string]int)} }

// Serve implements [rpc.Requests].
func (c *Counter) Serve(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error) {
	defer c.enter(t.Delivery)()
	return c.Requests.Serve(ctx, t, method, a)
}

// Inputs implements [rpc.Requests].
func (c *Counter) Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error) {
	defer c.enter(t.Delivery)()
	return c.Requests.Inputs(ctx, t, names)
}

func (c *Counter) enter(delivery string) (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[delivery]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open[delivery]--; c.open[delivery] == 0 {
			delete(c.open, delivery)
		}
	}
}

// Tasks returns the number of tasks with an unanswered request.
func (c *Counter) Tasks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}
