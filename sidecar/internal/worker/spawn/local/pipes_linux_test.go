package local_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// TestReadingWithoutWaiting: the output of an ended process is in its pipe, with or
// without an earlier read that waited.
func TestReadingWithoutWaiting(t *testing.T) {
	for _, waits := range []bool{false, true} {
		spawner := local.NewSpawner()
		t.Cleanup(spawner.Stop)
		p, err := spawner.Start(exec.Command("/bin/sh", "-c", "read x; printf 'said '; printf more"))
		if err != nil {
			t.Fatal(err)
		}
		out := p.Stdout().(local.NowReader)
		b := make([]byte, 5)
		if n, err := out.ReadNow(b); n != 0 || !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("of one that has said nothing: %d, %v", n, err)
		}
		_, _ = io.WriteString(p.Stdin(), "\n")
		var text string
		if waits {
			n, err := p.Stdout().Read(b)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b[:n])
		}
		<-p.Exited()
		for {
			n, err := out.ReadNow(b)
			text += string(b[:n])
			if err != nil {
				if !errors.Is(err, io.EOF) {
					t.Error(err)
				}
				break
			}
		}
		if text != "said more" {
			t.Errorf("waited %t: %q", waits, text)
		}
		p.Stdin().Close()
		p.Stdout().Close()
		p.Stderr().Close()
		if _, err := out.ReadNow(b); !errors.Is(err, os.ErrClosed) {
			t.Errorf("of a closed one: %v", err)
		}
	}
}

// TestWhatAProcessHasNotRead: the number of unread bytes of stdin is known after the
// end of a process, however it ended.
func TestWhatAProcessHasNotRead(t *testing.T) {
	spawner := local.NewSpawner()
	t.Cleanup(spawner.Stop)
	const text = "first\nsecond\n"
	for _, c := range []struct {
		script string
		read   int64
	}{{"exit 0", 0}, {"read x; exit 0", 6}, {"read x; kill -KILL $$", 6}, {"cat >/dev/null", int64(len(text))}} {
		p, err := spawner.Start(exec.Command("/bin/sh", "-c", "kill -STOP $$; "+c.script))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(p.Stdin(), text); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(c.script, "cat") {
			p.Stdin().Close()
		}
		for !local.Within(p.Exited(), 5*time.Millisecond) {
			p.Signal(syscall.SIGCONT)
		}
		if got := local.InputRead(p, int64(len(text))); got != c.read {
			t.Errorf("%s: %d bytes are read, want %d", c.script, got, c.read)
		}
		p.Stdin().Close()
		p.Stdout().Close()
		p.Stderr().Close()
	}
}
