package rpc

import (
	"context"
	"sync"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Requests serves the requests of workers for their tasks (P45 to P49, P53 to P56). Its
// methods may be called concurrently.
type Requests interface {
	// Serve answers one request of a running task with the result as JSON. It has no
	// time limit, and returns soon after the end of ctx, which ends with the delivery.
	// A *protocol.Error is sent to the worker as it is.
	Serve(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error)
	// Inputs reads the values of these names for a task that is about to start. It
	// leaves out names that do not exist. It waits while Redis is away; an error while
	// ctx has not ended is the failure of the task.
	Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error)
	// Ended is called once for each delivery that has made a request, when the delivery
	// has ended and every call of Serve for it has returned.
	Ended(t *task.Task)
}

// Bounds of the unanswered requests of one child (P54). The reader never waits, so that
// they must fit into memory.
const (
	maxOpen      = 1024
	maxOpenLines = 4 // in messages of the maximum length
	// maxReading is how many requests for stored values are served at once for one
	// child.
	maxReading = 16
)

// scope is the time in which a task may make requests.
type scope struct {
	ctx  context.Context
	end  context.CancelFunc
	open sync.WaitGroup
}

// requestCount counts the unanswered requests of a child, and the bytes of their
// params.
type requestCount struct{ requests, bytes int }

func tooMuch(n, most int) *protocol.Error {
	return protocol.Errorf(protocol.CodeInvalidParams, "the answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", n, most)
}

func deliveryEnded(delivery string) *protocol.Error {
	return protocol.Errorf(protocol.CodeDeliveryEnded, "no task runs in this worker under the delivery %.200q", delivery)
}
