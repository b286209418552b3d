// Package unixsocket makes Unix sockets in a shared folder for processes of other
// containers and users.
package unixsocket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// longestPath is the maximum length of a path, so that the temporary name of a socket
// stays below the system's limit of 107 bytes.
const longestPath = 100

// Socket is a listening Unix socket. Its methods may be called concurrently.
type Socket struct {
	listener *net.UnixListener
	path     string
	made     os.FileInfo
	once     sync.Once
}

// Listen makes a socket with a mode. It replaces one that no process serves any more.
// It fails if a process serves the socket, or if the file is not a socket.
func Listen(path string, mode os.FileMode) (*Socket, error) {
	path = filepath.Clean(path)
	if len(path) > longestPath {
		return nil, fmt.Errorf("%s is too long for a socket: at most %d bytes", path, longestPath)
	}
	if err := vacant(path); err != nil {
		return nil, err
	}
	// The socket is made under another name, so that no client finds it before it has its
	// mode, and the old one is replaced atomically.
	draft := path + ".new"
	_ = os.Remove(draft) // left by a process that was killed here
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: draft, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("no socket can be made at %s: %w (is the folder there, and may user %d write to it?)", path, Cause(err), os.Getuid())
	}
	l.SetUnlinkOnClose(false)
	s := &Socket{listener: l, path: path}
	err = os.Chmod(draft, mode)
	if err == nil {
		s.made, err = os.Lstat(draft)
	}
	if err == nil {
		err = os.Rename(draft, path)
	}
	if err != nil {
		_, _ = l.Close(), os.Remove(draft)
		return nil, fmt.Errorf("no socket can be made at %s: %w", path, Cause(err))
	}
	return s, nil
}

// vacant fails if the path is taken.
func vacant(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("no socket can be made at %s: %w", path, Cause(err))
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: remove it, or name another path", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("another process serves the socket %s: each sidecar needs one of its own", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("the socket %s is there, and whether another process serves it cannot be seen: %w", path, Cause(err))
	}
	return nil
}

// Cause returns an error without the name of the call and the path, which the message
// already has.
func Cause(err error) error {
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return no
	}
	return err
}

// Accept waits for a connection.
func (s *Socket) Accept() (*net.UnixConn, error) { return s.listener.AcceptUnix() }

// Close stops listening and removes the socket, unless another one has replaced it.
func (s *Socket) Close() (err error) {
	s.once.Do(func() {
		if now, lerr := os.Lstat(s.path); lerr == nil && os.SameFile(now, s.made) {
			err = os.Remove(s.path)
		}
		err = errors.Join(err, s.listener.Close())
	})
	return err
}
