package claim

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Load implements [Source]. It reads a record part by part. If the server closes the
// connection instead of sending a part, its client-output-buffer-limit is below the size of
// the part, and Load continues with smaller parts.
func (c *Redis) Load(soft, hard context.Context, t task.Task) ([]byte, error) {
	k := c.o.NewLink()
	k.Run, _ = task.SplitDelivery(t.Delivery)
	record := make([]byte, 0, t.Size())
	for count := redis.MaxParts; len(record) < t.Size(); {
		err := k.Open()
		var part []byte
		if err == nil {
			part, err = c.o.Store.RecordParts(hard, k.Run, t.Delivery, len(record)/redis.PartBytes, count)
		}
		switch {
		case soft.Err() != nil:
			return nil, nil
		case err == nil && len(part) == 0:
			return nil, nil // not in flight any more
		case err == nil:
			record = append(record, part...)
			k.OK()
			continue
		case isConnectionCut(err):
			count = max(count/2, 1)
		}
		if err := k.Recover(soft, err); err != nil {
			return nil, err
		}
	}
	return record, nil
}

// isConnectionCut reports whether the other side has closed a connection.
func isConnectionCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
