package redis

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
)

// errMoved means that the reply to a BLMOVE was not read to its end. The record has been
// moved; a claim takes it.
var errMoved = errors.New("the record has been moved, and its reply is not read to the end")

// blmove is the beginning of a BLMOVE command.
var blmove = []byte("*6\r\n$6\r\nblmove\r\n")

// moveReply tracks the replies to BLMOVE on a connection. Such a reply is the whole
// record, which the sidecar does not need there: over a slow link one of 60 MB outlasts
// the wait, and Redis closes the connection if it exceeds client-output-buffer-limit.
type moveReply struct {
	waits atomic.Bool  // a reply to a BLMOVE is due
	got   atomic.Int64 // bytes of it that were read
}

// sent records the data that is written.
func (m *moveReply) sent(b []byte) {
	m.waits.Store(bytes.HasPrefix(b, blmove))
	m.got.Store(0)
}

// received records the data that was read. It returns the error to end with: errMoved if
// a reply is too long or was cut after it had begun.
func (m *moveReply) received(n int, err error) error {
	if !m.waits.Load() {
		return err
	}
	switch got := m.got.Add(int64(n)); {
	case got > maxReply:
		return errMoved
	case err != nil && got > 0:
		return fmt.Errorf("%w: %w", errMoved, err)
	default:
		return err
	}
}
