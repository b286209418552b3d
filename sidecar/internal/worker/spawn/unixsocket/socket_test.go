package unixsocket

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "socket") // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestASocketHasItsModeAndIsRemoved(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o660, 0o770} {
		path := filepath.Join(folder(t), "s")
		s, err := Listen(path, mode)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|mode {
			t.Errorf("%v %v, want %v", info.Mode(), err, mode)
		}
		go func() {
			conn, err := net.Dial("unix", path)
			if err == nil {
				_, _ = io.WriteString(conn, "x")
				conn.Close()
			}
		}()
		conn, err := s.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if who := Peer(conn); !strings.Contains(who, "uid=") && who != "unknown" {
			t.Errorf("peer: %s", who)
		}
		conn.Close()
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		left, _ := os.ReadDir(filepath.Dir(path))
		if len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestASocketThatIsLeftIsReplaced: a socket left after a SIGKILL is replaced, and one
// that a process serves is not.
func TestASocketThatIsLeftIsReplaced(t *testing.T) {
	path := filepath.Join(folder(t), "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if _, err := Listen(path, 0o600); err == nil || !strings.Contains(err.Error(), "another process serves") {
		t.Errorf("one that is served: %v", err)
	}
	left.Close()
	s, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	// Close does not remove a socket that has replaced this one.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other one's: %v", err)
	}
}

func TestWhereNoSocketCanBe(t *testing.T) {
	dir := folder(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                           "is no socket",
		dir:                            "is no socket",
		filepath.Join(dir, "no", "s"):  "is the folder there",
		"/" + strings.Repeat("x", 120): "too long for a socket",
	} {
		s, err := Listen(path, 0o600)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if text, _ := os.ReadFile(file); string(text) != "precious" {
		t.Error("the file of another program is gone")
	}
}
