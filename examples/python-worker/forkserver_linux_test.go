package pyworker

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestForkServerCommandStartsAForkServer from the archive, with its socket behind it.
func TestForkServerCommandStartsAForkServer(t *testing.T) {
	archive, err := Zip()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "graflow_sidecar.zip")
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	argv := append(ForkServerCommand(python(t), "/proc/self/fd/3"), "4")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "SIDECAR_PROCESS_ID=z")
	cmd.ExtraFiles = []*os.File{file, theirs}
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	word := make([]byte, 4096)
	n, err := ours.Read(word)
	if err != nil || !strings.Contains(string(word[:n]), `"problem": ""`) {
		t.Errorf("its first word is %q (%v)", word[:n], err)
	}
	ours.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("at the end of its socket: %v\n%s", err, log.String())
	}
}
