//go:build lifecycle

package lifecycle

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// With LIFECYCLE_IMAGE the outages have one more: Redis is a container, and is
// removed, as in the clean-up that this project comes from.
func init() {
	if os.Getenv("LIFECYCLE_IMAGE") == "" {
		return
	}
	outages = append(outages, outage{
		name: "container removed", container: true,
		gone: func(o *outaged) { o.container.remove(o.t) },
		back: func(o *outaged) { o.container.run(o.t) },
	})
}

// container is a Redis in one, always on the same port.
type container struct {
	port int
	id   string
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

func (c *container) run(t *testing.T) {
	t.Helper()
	c.id = docker(t, "run", "--detach", "--publish", "127.0.0.1:"+strconv.Itoa(c.port)+":6379", os.Getenv("LIFECYCLE_IMAGE"),
		"redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no")
}

func (c *container) remove(t *testing.T) {
	t.Helper()
	docker(t, "rm", "--force", "--volumes", c.id)
	c.id = ""
}

// containerBench is on a Redis in a container of the test's own.
func containerBench(t *testing.T) (*bench, *container) {
	t.Helper()
	c := &container{port: redistest.FreePort(t)}
	c.run(t)
	t.Cleanup(func() {
		if c.id != "" {
			c.remove(t)
		}
	})
	addr := "127.0.0.1:" + strconv.Itoa(c.port)
	b := &bench{t: t, rdb: newClient(t, addr), addr: addr, prefix: "life", dir: t.TempDir(), binary: sidecarBinary}
	wait.Until(t, "the container", func() bool { return b.rdb.Ping(t.Context()).Err() == nil })
	return b, c
}
