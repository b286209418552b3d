package app

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// maxEnvelope is how many bytes a task/run line of the worker protocol has at most
// besides its record.
const maxEnvelope = 512

// longest is how many bytes a record for a kind of worker may have: a worker skips
// a longer line (protocol rule P4), and its slot and the task's group would wait for
// ever. A program of mode exec gets no line, and a record as long as its
// result may be.
func (a *App) longest(route int) int {
	if len(a.cfg.Kinds) == 0 {
		return longestFor(a.cfg.Mode, a.cfg.Worker.MaxMessageBytes)
	}
	most := 0
	for i, k := range a.cfg.Kinds {
		n := longestFor(k.Mode, k.Worker.MaxMessageBytes)
		if i == route {
			return n
		}
		most = max(most, n)
	}
	return most
}

func longestFor(m config.Mode, maxMessage int) int {
	if m == config.ModeExec {
		return maxMessage
	}
	return maxMessage - maxEnvelope
}

// Load reads a record part by part, for as long as it takes. Where the server closes
// the connection instead of sending a part, its limit for the replies that a client
// has not read (client-output-buffer-limit) is lower than that: smaller parts are
// asked for from then on.
func (c *claims) Load(soft, hard context.Context, t task.Task) ([]byte, error) {
	k := c.newLink()
	k.run, _ = parts(t.Delivery)
	record := make([]byte, 0, t.Size())
	for count := redis.MaxParts; len(record) < t.Size(); {
		err := k.open()
		var part []byte
		if err == nil {
			part, err = c.st.RecordParts(hard, k.run, t.Delivery, len(record)/redis.PartBytes, count)
		}
		switch {
		case soft.Err() != nil:
			return nil, nil
		case err == nil && len(part) == 0:
			return nil, nil // not ours any more
		case err == nil:
			record = append(record, part...)
			k.ok()
			continue
		case isCut(err):
			count = max(count/2, 1)
		}
		if err := k.Recover(soft, err); err != nil {
			return nil, err
		}
	}
	return record, nil
}

// isCut reports whether the other side has closed a connection.
func isCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
