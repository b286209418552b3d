package rpc

import (
	"context"
	"sync"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Requests serves what workers request for their tasks (P45 to P49, P53 to P56).
// Its methods are called from many goroutines at once.
type Requests interface {
	// Serve answers one request of a running task with the result's JSON. It may
	// take as long as it needs, and returns soon once ctx, which ends with the
	// delivery, has ended. An error that is a *protocol.Error is what the worker
	// gets.
	Serve(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error)
	// Inputs reads the values of these names for a task that is to start; names
	// that are not there are left out. It waits for what passes; an error with
	// ctx not ended is the task's failure.
	Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error)
	// Ended is called once for each delivery that has asked for something, when
	// it has ended and every Ask of it has returned.
	Ended(t *task.Task)
}

// Bounds of what one child may have asked and not been answered (P54). The
// reader never waits, so what comes must fit into memory.
const (
	maxOpen      = 1024
	maxOpenLines = 4 // in messages of the greatest length
	// maxReading is how many requests for stored values are served at once for one child.
	maxReading = 16
)

// scope is the part of a task's life in which it may ask.
type scope struct {
	ctx  context.Context
	end  context.CancelFunc
	open sync.WaitGroup
}

// opened counts a child's unanswered requests, and the bytes of their params.
type opened struct{ requests, bytes int }

func tooMuch(n, most int) *protocol.Error {
	return protocol.Errorf(protocol.CodeInvalidParams, "the answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", n, most)
}

func deliveryEnded(delivery string) *protocol.Error {
	return protocol.Errorf(protocol.CodeDeliveryEnded, "no task runs in this worker under the delivery %.200q", delivery)
}
