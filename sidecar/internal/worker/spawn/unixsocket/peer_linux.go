package unixsocket

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer describes the process at the other end, for the log. A process of another PID
// namespace has the number 0.
func Peer(conn *net.UnixConn) string {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "unknown"
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return "unknown"
	}
	return fmt.Sprintf("uid=%d gid=%d pid=%d", cred.Uid, cred.Gid, cred.Pid)
}
