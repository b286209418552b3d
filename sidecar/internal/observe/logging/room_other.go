//go:build !linux

package logging

import "time"

// awaitRoom cannot tell.
func awaitRoom(int, time.Duration) bool { return false }
