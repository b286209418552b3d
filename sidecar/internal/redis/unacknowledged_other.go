//go:build !linux

package redis

import "net"

// unacknowledged returns the number of written bytes that the peer's machine has not
// acknowledged, which is unknown on this system.
func unacknowledged(net.Conn) (bytes int, known bool) { return 0, false }
