//go:build !linux

package unixsocket

import "net"

// Peer returns "unknown": only Linux describes the process at the other end.
func Peer(*net.UnixConn) string { return "unknown" }
