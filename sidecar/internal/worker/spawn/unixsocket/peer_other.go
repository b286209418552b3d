//go:build !linux

package unixsocket

import "net"

// Peer is not known here.
func Peer(*net.UnixConn) string { return "unknown" }
