package report

import (
	"fmt"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	// largeValue is the size from which a single result counts as rejected after maxDrops
	// cut connections in a row, with a reachable Redis in between. A limit of Redis
	// (client-query-buffer-limit) or of a proxy closes the connection without an error.
	largeValue = 1 << 20
	maxDrops   = 5
)

// drops counts the connections that were cut while they carried the same large result.
type drops struct {
	delivery string
	n        int
}

// classify counts a failure. It returns err, or a droppedError after maxDrops cuts.
func (d *drops) classify(err error, batch []task.Outcome) error {
	name := redis.ClassName(err)
	if len(batch) != 1 || len(batch[0].Value) < largeValue || name != "conn_reset" && name != "conn_closed" {
		*d = drops{}
		return err
	}
	if batch[0].Task.Delivery != d.delivery {
		*d = drops{delivery: batch[0].Task.Delivery}
	}
	if d.n++; d.n < maxDrops {
		return err
	}
	*d = drops{}
	return &droppedError{len(batch[0].Value), err}
}

// droppedError is the [Rejection] of a result whose connection is cut each time.
type droppedError struct {
	size int
	err  error
}

func (e *droppedError) Error() string { return e.Explain("argument") }
func (e *droppedError) Unwrap() error { return e.err }
func (e *droppedError) Explain(what string) string {
	return fmt.Sprintf("%s of %.1f MB is not taken: the connection to Redis is closed each time (client-query-buffer-limit?): %v", what, float64(e.size)/1e6, e.err)
}
