package redis

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
)

// errMoved says that the reply to a BLMOVE is not read to its end. The record has
// been moved; a claim brings it.
var errMoved = errors.New("the record has been moved, and its reply is not read to the end")

// blmove is how a BLMOVE command begins.
var blmove = []byte("*6\r\n$6\r\nblmove\r\n")

// moveReply watches the replies to BLMOVE on a connection. Such a reply is the whole
// record, which nothing here wants: over a slow link one of 60 MB outlasts the
// wait for it, and Redis closes the connection of one that exceeds
// client-output-buffer-limit.
type moveReply struct {
	waits atomic.Bool  // for the reply to a BLMOVE
	got   atomic.Int64 // bytes of it
}

// sent notes what is written.
func (m *moveReply) sent(b []byte) {
	m.waits.Store(bytes.HasPrefix(b, blmove))
	m.got.Store(0)
}

// received notes what was read and returns the error to end with, if any: errMoved
// where a reply is too long, or was cut short after it had begun.
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
