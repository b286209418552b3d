//go:build pods

package pods

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func testdata() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "testdata")
}

// inFlight counts the tasks that some run holds.
func (p *pod) inFlight() (n int) {
	for _, key := range p.rdb.Keys(p.t.Context(), p.prefix+":sidecar:inflight:*").Val() {
		n += int(p.rdb.HLen(p.t.Context(), key).Val())
	}
	return n
}

// complete expects the producer's answer, and that nothing of the work is left.
func (p *pod) complete(answer <-chan string, tasks int) {
	p.t.Helper()
	var text string
	select {
	case text = <-answer:
	case <-time.After(2 * patience):
		p.t.Fatal("the producer has not ended")
	}
	want, got := map[string]int{}, map[string]int{}
	for i := range tasks {
		want[fmt.Sprintf("square_%d", i)] = i * i
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || !maps.Equal(got, want) {
		p.t.Errorf("the producer says: %s", text)
	}
	wait.Until(p.t, "nothing to be in flight", func() bool { return p.inFlight() == 0 })
	if n := p.rdb.LLen(p.t.Context(), p.prefix+":queue").Val(); n != 0 {
		p.t.Errorf("%d records are in the queue", n)
	}
	for _, key := range p.rdb.Keys(p.t.Context(), p.prefix+":sidecar:dead*").Val() {
		p.t.Errorf("there are dead letters: %s", key)
	}
}

// TestPatternA: the binary comes from an init container and is the entrypoint of
// the worker's. Killed in the middle of the work, and stopped.
func TestPatternA(t *testing.T) {
	t.Parallel()
	p := newPod(t, 65532)
	init := p.run("init", spec{image: p.alone, user: "65532:65532", command: []string{"install", "/run/sidecar/"}})
	docker(t, "wait", init.name)
	init.says("installed sidecar")
	worker := p.run("worker", spec{
		image: p.worker, user: "65532:65532", env: p.redisEnv("MAX_CONCURRENT_TASKS=3"),
		command: []string{"--graflow"},
	}.entrypoint("/run/sidecar/sidecar", "run"))
	worker.says("sidecar is ready")

	answer := p.produce(12, 500*time.Millisecond)
	wait.Until(t, "tasks in flight", func() bool { return p.inFlight() >= 2 })
	worker.killed()
	p.complete(answer, 12)
	p.noZombies(worker)

	worker.stop()
	if log := worker.logs(); !strings.HasSuffix(log, "id=sidecar-stopped") {
		t.Errorf("its last words: %s", log[max(0, len(log)-300):])
	}
}

// beside starts the two containers of pattern B, with users of their own and a
// group in common.
func (p *pod) beside() (sidecar, worker *container) {
	sidecar = p.run("sidecar", spec{
		image: p.alone, user: "65532:65532", groups: []int{2000},
		env:     p.redisEnv("MAX_CONCURRENT_TASKS=3", "SIDECAR_GRAFLOW=true", "SIDECAR_WORKER_SOCKET=/run/sidecar/worker.sock"),
		command: []string{"run"},
	})
	return sidecar, p.host("worker", "1000:1000", 2000)
}

// host starts a worker's container.
func (p *pod) host(name, user string, groups ...int) *container {
	return p.run(name, spec{
		image: p.worker, user: user, groups: groups,
		env:     []string{"SIDECAR_LOG_FORMAT=text"},
		command: []string{"connect", "--socket", "/run/sidecar/worker.sock", "--graflow"},
	})
}

// TestPatternB: a container of its own. Each is killed in the middle of the work.
func TestPatternB(t *testing.T) {
	t.Parallel()
	p := newPod(t, 2000)
	sidecar, worker := p.beside()
	sidecar.says("sidecar is ready")
	worker.noSecrets()

	answer := p.produce(12, 500*time.Millisecond)
	wait.Until(t, "tasks in flight", func() bool { return p.inFlight() >= 2 })
	worker.killed()
	p.complete(answer, 12)

	answer = p.produce(12, 500*time.Millisecond)
	wait.Until(t, "tasks in flight", func() bool { return p.inFlight() >= 2 })
	sidecar.killed()
	p.complete(answer, 12)
	p.noZombies(sidecar, worker)

	// As ordinary containers both get the signal at once.
	answer = p.produce(6, 500*time.Millisecond)
	wait.Until(t, "tasks in flight", func() bool { return p.inFlight() >= 2 })
	var stops sync.WaitGroup
	for _, c := range []*container{sidecar, worker} {
		stops.Go(c.stop)
	}
	stops.Wait()
	if n := p.inFlight(); n != 0 {
		t.Errorf("%d tasks are in flight", n)
	}
	docker(t, "start", sidecar.name, worker.name)
	p.complete(answer, 6)
}

// TestStopInKubernetesOrder: the worker's container gets the signal first, and a
// native sidecar's when that is gone. The tasks that run are finished, and the
// others are in the queue, at no cost.
func TestStopInKubernetesOrder(t *testing.T) {
	t.Parallel()
	p := newPod(t, 2000)
	sidecar, worker := p.beside()
	sidecar.says("sidecar is ready")
	answer := p.produce(8, 2*time.Second)
	wait.Until(t, "as many tasks as there are slots", func() bool { return p.inFlight() >= 3 })

	worker.stop()
	sidecar.says("worker container is gone")
	wait.Until(t, "what ran to be reported", func() bool { return p.inFlight() == 0 })
	queued := p.rdb.LLen(t.Context(), p.prefix+":queue").Val()
	done := p.rdb.Keys(t.Context(), "graflow:channel:*square_*.__result__").Val()
	if queued != 5 || len(done) != 3 {
		t.Errorf("%d tasks are done and %d in the queue, and 3 ran when the signal came", len(done), queued)
	}
	sidecar.stop()
	for _, c := range []*container{sidecar, worker} {
		for line := range strings.Lines(c.logs()) {
			if strings.Contains(line, " WRN ") || strings.Contains(line, " ERR ") {
				t.Errorf("%s complains: %s", c.name, line)
			}
		}
	}
	if keys := p.rdb.Keys(t.Context(), p.prefix+":sidecar:attempts*").Val(); len(keys) != 0 {
		t.Errorf("attempts were counted: %v", keys)
	}

	// The pod's successor finishes the workflow.
	p2 := *p
	docker(t, "rm", sidecar.name, worker.name)
	p2.beside()
	p.complete(answer, 8)
}

// TestSocketRights: a worker that is not in the socket's group is told so, and a
// worker in the group gets in.
func TestSocketRights(t *testing.T) {
	t.Parallel()
	p := newPod(t, 2000)
	sidecar := p.run("sidecar", spec{
		image: p.alone, user: "65532:65532", groups: []int{2000},
		env: p.redisEnv("SIDECAR_WORKER_SOCKET=/run/sidecar/worker.sock"), command: []string{"run"},
	})
	sidecar.says("no worker is connected")
	stranger := p.host("stranger", "1001:1001")
	stranger.says("user 1001 may not use its socket")
	first := p.host("first", "1002:1002", 2000)
	first.says("worker started")
	second := p.host("second", "1003:1003", 2000)
	second.says("worker started") // the work is shared
	p.noZombies(sidecar, first, second)
	if strings.Contains(stranger.logs(), "worker started") {
		t.Error("the stranger got work")
	}
}

// noSecrets looks at everything that the processes of a container have.
func (c *container) noSecrets() {
	c.pod.t.Helper()
	wait.Until(c.pod.t, "its workers", func() bool { return strings.Count(strings.Join(c.processes(), "\n"), "python3") >= 3 })
	// The sidecar's own processes cannot be read, which is as it should be; what they
	// were given, inspect tells.
	everything := docker(c.pod.t, "exec", c.name, "sh", "-c", "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null; true") + docker(c.pod.t, "inspect", c.name)
	if !strings.Contains(everything, "REDIS_URL=unix:///run/sidecar/worker.sock.redis?db=0") {
		c.pod.t.Error("its workers were not told of the relay")
	}
	for _, word := range []string{password, "REDIS_PASSWORD", "REDIS_HOST", c.pod.redis} {
		if strings.Contains(everything, word) {
			c.pod.t.Errorf("%q is there", word)
		}
	}
}
