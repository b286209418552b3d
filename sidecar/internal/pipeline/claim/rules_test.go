package claim

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestTheLastAttemptIsIsolated: unless it is the first one.
func TestTheLastAttemptIsIsolated(t *testing.T) {
	for _, c := range []struct {
		losses, most int
		withRun      bool
		want         task.Isolation
	}{
		{0, 3, false, task.IsolateNone},
		{0, 1, true, task.IsolateNone},
		{1, 3, true, task.IsolateNone},
		{2, 3, false, task.IsolateProcess},
		{2, 3, true, task.IsolateRun},
		{1, 1, true, task.IsolateRun}, // the maximum was lowered
	} {
		if got := isolationOf(redis.Claimed{Losses: c.losses, LostWithRun: c.withRun}, c.most); got != c.want {
			t.Errorf("%d losses of %d, with the run: %t: %v, want %v", c.losses, c.most, c.withRun, got, c.want)
		}
	}
}

func TestIsConnectionCut(t *testing.T) {
	for _, err := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if !isConnectionCut(fmt.Errorf("read: %w", err)) {
			t.Errorf("%v does not count as a cut connection", err)
		}
	}
	for _, err := range []error{nil, syscall.ECONNREFUSED, errors.New("OOM full")} {
		if isConnectionCut(err) {
			t.Errorf("%v is one", err)
		}
	}
}
