package local_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
)

// escaping starts a shell that leaves a process behind in a session of its own and then
// runs a script.
func escaping(t *testing.T, then string, mark bool) (p local.Process, escapee int) {
	t.Helper()
	spawner := local.NewSpawner()
	t.Cleanup(spawner.Stop)
	cmd := exec.Command("/bin/sh", "-c", `setsid sh -c 'echo $$; exec sleep 600' & `+then)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if mark {
		cmd.Env = append(cmd.Env, local.IDVariable+"=inherited", local.IDVariable+"=w-0-"+t.Name())
	}
	p, err := spawner.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stdin().Close()
		local.End(context.Background(), p, nil, 10*time.Millisecond)
		p.Stdout().Close()
		p.Stderr().Close()
	})
	line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if escapee, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return p, escapee
}

// TestNothingOutlivesAProcess: however the process ends, processes that have left its
// group are dead when Exited is closed.
func TestNothingOutlivesAProcess(t *testing.T) {
	for _, c := range []struct{ name, then, fate string }{
		{"by itself", "read x; exit 3", "exited with status 3"},
		{"by SIGTERM", "exec sleep 600", "was killed by SIGTERM, sent by the sidecar"},
		{"by SIGKILL", "trap '' TERM; sleep 600", "was killed by SIGKILL, sent by the sidecar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin(t)
			p, escapee := escaping(t, c.then, true)
			local.End(context.Background(), p, func() { p.Stdin().Close() }, 200*time.Millisecond)
			wantFate(t, p, c.fate)
			if proc.Alive(strconv.Itoa(escapee)) {
				t.Errorf("process %d, which left the group, outlived it", escapee)
			}
		})
	}
}

// TestWithoutAMarkOnlyTheGroupIsKilled: without a mark the owner of an orphan is
// unknown.
func TestWithoutAMarkOnlyTheGroupIsKilled(t *testing.T) {
	begin(t)
	p, escapee := escaping(t, "read x", false)
	p.Stdin().Close()
	wantFate(t, p, "exited with status 1")
	if !proc.Alive(strconv.Itoa(escapee)) {
		t.Error("a process of another program was killed")
	}
}
