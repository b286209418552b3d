//go:build !linux

package redis

import "net"

// unacknowledged is how many written bytes the peer's machine has not taken yet:
// not known here.
func unacknowledged(net.Conn) (bytes int, known bool) { return 0, false }
