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

// Begin fails: only Linux has child subreapers. Orphans go to init.
func Begin(*slog.Logger) (*Reaper, error) { return nil, errors.ErrUnsupported }

// Stop does nothing.
func (*Reaper) Stop() {}

// isChild is not asked anywhere else: orphans are never ours.
func isChild(int) bool { return false }

// HasLeft is not told: orphans are never ours.
func HasLeft(string, int) bool { return false }

// End does nothing: orphans are never ours.
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
