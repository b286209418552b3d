package report

import (
	"fmt"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	// largeValue and mostDrops: a single result of a megabyte or more whose connection
	// is cut so often in a row, while Redis is there in between, is one that a limit of
	// Redis (client-query-buffer-limit) or of a proxy does not let through. Neither
	// says so: it closes the connection.
	largeValue = 1 << 20
	mostDrops  = 5
)

// drops counts connections that were cut under one and the same large result.
type drops struct {
	delivery string
	n        int
}

// count notes a failure and returns what it comes to.
func (d *drops) count(err error, batch []task.Outcome) error {
	name := redis.ClassName(err)
	if len(batch) != 1 || len(batch[0].Value) < largeValue || name != "conn_reset" && name != "conn_closed" {
		*d = drops{}
		return err
	}
	if batch[0].Task.Delivery != d.delivery {
		*d = drops{delivery: batch[0].Task.Delivery}
	}
	if d.n++; d.n < mostDrops {
		return err
	}
	*d = drops{}
	return &droppedError{len(batch[0].Value), err}
}

// droppedError is a [Rejection].
type droppedError struct {
	size int
	err  error
}

func (e *droppedError) Error() string { return e.Of("argument") }
func (e *droppedError) Unwrap() error { return e.err }
func (e *droppedError) Of(what string) string {
	return fmt.Sprintf("%s of %.1f MB is not taken: the connection to Redis is closed each time (client-query-buffer-limit?): %v", what, float64(e.size)/1e6, e.err)
}
