//go:build !linux

package reaper

import (
	"errors"
	"log/slog"
	"syscall"
	"time"
)

// Reaper exists on Linux only.
type Reaper struct{}

// Begin fails: only Linux has child subreapers. Elsewhere orphans go to init.
func Begin(*slog.Logger) (*Reaper, error) { return nil, errors.ErrUnsupported }

// Stop does nothing.
func (*Reaper) Stop() {}

// isChild is never called: this process gets no orphans.
func isChild(int) bool { return false }

// HasLeft is always false: this process gets no orphans.
func HasLeft(string, int) bool { return false }

// End does nothing: this process gets no orphans.
func End(string, int, time.Duration) {}

// Abandon kills the group of each child, unless their list is locked at the moment.
func Abandon(time.Duration) {
	if family.mu.TryLock() {
		defer family.mu.Unlock()
		for pid := range family.claimed {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
}
