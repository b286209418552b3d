//go:build lifecycle

package lifecycle

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// smallDisk is a tmpfs in a mount namespace of its own, with a spool in it.
type smallDisk struct {
	spool string // its folder, from outside of the namespace
	fill  string // a file that fills it
}

// onDisk mounts a tmpfs with an option and starts a sidecar in its namespace.
func (b *bench) onDisk(option string, env ...string) (*sidecar, *smallDisk) {
	b.t.Helper()
	binary, err := b.binary()
	if err != nil {
		b.t.Fatal(err)
	}
	mount := b.t.TempDir()
	args := []string{"--mount", "--propagation", "private"}
	if os.Getuid() != 0 { // in a user namespace of its own it is root
		args = append(args, "--map-root-user", "--user")
	}
	if out, err := exec.Command("unshare", append(slices.Clone(args), "true")...).CombinedOutput(); err != nil {
		if os.Getenv("NEEDS_NAMESPACES") == "" {
			b.t.Skipf("this machine makes no mount namespace for us: %v: %s", err, out)
		}
		b.t.Fatalf("%v: %s", err, out)
	}
	// The shell gives its process to the sidecar.
	script := `mount -t tmpfs -o "$4" tmpfs "$1" && mkdir "$1/spool" && touch "$1/fill" && exec "$2" run -- "$3" worker`
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	s := b.command(exec.Command("unshare", append(args, "sh", "-c", script, "sh", mount, binary, self, option)...),
		append([]string{"SIDECAR_SPOOL_DIR=" + mount + "/spool"}, env...)...)
	root := filepath.Join("/proc", strconv.Itoa(s.cmd.Process.Pid), "root", mount)
	return s, &smallDisk{spool: filepath.Join(root, "spool"), fill: filepath.Join(root, "fill")}
}

// fillUp fills the disk to its last byte.
func (d *smallDisk) fillUp(t *testing.T) {
	t.Helper()
	f, err := os.Create(d.fill)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err = f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAStopOnAFullDisk: Redis is away and the disk of the spool is full. The sidecar says what
// was not kept, ends with 0 in its time, and leaves nothing on the disk. Where there is room the
// outcomes are kept.
func TestAStopOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, isFull := range []bool{true, false} {
		name := "room"
		if isFull {
			name = "full"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, proxy := proxied(t)
			gates := []string{b.gate("first"), b.gate("second")}
			b.push(job{TaskID: "first", Do: "gate", Path: gates[0]}, job{TaskID: "second", Do: "gate", Path: gates[1]})
			s, disk := b.onDisk("size=64k", "SIDECAR_SHUTDOWN_TIMEOUT=3s")
			for _, gate := range gates {
				b.begun(gate)
			}
			if isFull {
				disk.fillUp(t)
			}
			// The folder stays when the namespace has ended.
			folder, err := os.Open(disk.spool)
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			proxy.Refuse()
			s.signal(syscall.SIGTERM)
			for _, gate := range gates {
				b.open(gate)
			}
			s.endsWithin(3 * time.Second)
			names, err := folder.Readdirnames(-1)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 0, false: 1}[isFull]; len(names) != want {
				t.Errorf("in the spool are %v", names)
			}
			if text := noise.FindString(s.log.String()); text != "" {
				t.Errorf("the log has %q", text)
			}
			for _, id := range []string{"first", "second"} {
				if said := s.says(`"not reported before the end: it will be delivered again","task_id":"` + id); said != isFull {
					t.Errorf("the log names %s: %v, want %v", id, said, isFull)
				}
			}
			if said := s.says(`"outcomes could not be spooled"`) && s.says("no space left on device"); said != isFull {
				t.Errorf("the log tells of the full disk: %v, want %v", said, isFull)
			}
			if said := s.says(`"redis did not come back: outcomes are spooled"`); said == isFull {
				t.Errorf("the log tells of a spool: %v", said)
			}
		})
	}
}

// TestAStartOnAFullDisk: a spool that cannot be written now is said, and tasks run.
func TestAStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.push(job{TaskID: "a"})
	s, _ := b.onDisk("nr_inodes=3") // the root, the spool, and a file
	wait.Until(t, "a task", func() bool { return b.done("a") })
	if !s.says(`"spool cannot be written now"`) || !s.says("no space left on device") {
		t.Error("the log does not tell of the full disk")
	}
	s.terminate(3 * time.Second)
	s.silent()
}

// TestAStopOnAHungDisk: the open of the spool file does not return, as on a stalled NFS server
// (here the file is a named pipe). The stop ends in its time and names what was not kept.
func TestAStopOnAHungDisk(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t)
	folder, gate := t.TempDir(), b.gate("gate")
	b.push(job{TaskID: "running", Do: "gate", Path: gate})
	s := b.sidecar("SIDECAR_SHUTDOWN_TIMEOUT=3s", "SIDECAR_STOP_REDIS_WAIT=500ms", "SIDECAR_SPOOL_DIR="+folder)
	b.begun(gate)
	runs := b.rdb.SMembers(t.Context(), b.key("sidecar:runs")).Val()
	if len(runs) != 1 {
		t.Fatalf("the runs are %v", runs)
	}
	if err := syscall.Mkfifo(filepath.Join(folder, runs[0]+".spool.partial"), 0o600); err != nil {
		t.Fatal(err)
	}
	proxy.Refuse()
	s.signal(syscall.SIGTERM)
	b.open(gate)
	t.Logf("ended %v after the signal", s.exits(0, 4*time.Second))
	text := s.log.String()
	for _, want := range []string{`"outcomes could not be spooled"`, "the disk does not answer", `"not reported before the end: it will be delivered again","task_id":"running"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log has no %s", want)
		}
	}
}
