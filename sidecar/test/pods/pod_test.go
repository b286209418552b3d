//go:build pods

package pods

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// patience is how long anything may take that is waited for.
const patience = 30 * time.Second

// password is the password of Redis: only the sidecar may have it.
const password = "hush-1a2b3c"

func image(t *testing.T, variable string) string {
	t.Helper()
	name := os.Getenv(variable)
	if name == "" {
		t.Fatalf("%s names no image: run make pods", variable)
	}
	return name
}

func try(args ...string) (string, error) {
	out, err := exec.Command("docker", args...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).Output()
	if err != nil {
		var said []byte
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			said = failed.Stderr
		}
		t.Fatalf("docker %s: %v %s", strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(string(out))
}

// pod is containers that share a network namespace and a volume, and a Redis
// outside of it.
type pod struct {
	t      *testing.T
	name   string
	prefix string
	redis  string // its address for the pod
	rdb    *redis.Client
	worker string // image with Python, Graflow and the sidecar
	alone  string // image of the sidecar
}

// newPod starts the Redis and the container that holds the pod's network. group
// is the volume's, as fsGroup makes it.
func newPod(t *testing.T, group int) *pod {
	t.Helper()
	p := &pod{
		t: t, name: fmt.Sprintf("graflow-pods-%s-%d", strings.ToLower(t.Name()), os.Getpid()), prefix: "pods",
		worker: image(t, "PODS_WORKER_IMAGE"), alone: image(t, "PODS_SIDECAR_IMAGE"),
	}
	t.Cleanup(p.remove)
	docker(t, "run", "--detach", "--name", p.name+"-redis", "--publish", "127.0.0.1::6379", image(t, "PODS_REDIS_IMAGE"),
		"redis-server", "--save", "", "--appendonly", "no", "--requirepass", password)
	p.redis = docker(t, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", p.name+"-redis")
	port := docker(t, "port", p.name+"-redis", "6379/tcp")
	_, number, err := net.SplitHostPort(strings.Fields(port)[0])
	if err != nil {
		t.Fatal(err)
	}
	p.rdb = redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + number, Password: password})
	wait.Until(t, "redis", func() bool { return p.rdb.Ping(t.Context()).Err() == nil })

	docker(t, "volume", "create", p.name)
	// An empty volume would get the rights of the image's folder each time that it
	// is mounted. A pod's gets none.
	docker(t, "run", "--rm", "--user", "0", "--volume", p.name+":/run/sidecar", "--entrypoint", "sh", p.worker, "-c",
		fmt.Sprintf("busybox chown 0:%d /run/sidecar && busybox chmod 2770 /run/sidecar && echo > /run/sidecar/.volume", group))
	docker(t, "run", "--detach", "--name", p.name+"-pause", "--entrypoint", "sleep", p.worker, "3600")
	return p
}

// remove ends it all, whatever there is by now.
func (p *pod) remove() {
	if p.rdb != nil {
		_ = p.rdb.Close()
	}
	if p.t.Failed() {
		for _, c := range p.containers() {
			out, _ := try("logs", "--tail", "60", c)
			p.t.Logf("%s:\n%s", c, out)
		}
	}
	if all := append(p.containers(), p.name+"-pause", p.name+"-redis"); len(all) > 0 {
		_, _ = try(append([]string{"rm", "--force", "--volumes"}, all...)...)
	}
	_, _ = try("volume", "rm", "--force", p.name)
}

// containers are those of the pod itself.
func (p *pod) containers() (names []string) {
	out, _ := try("ps", "--all", "--format", "{{.Names}}", "--filter", "name=^"+p.name+"-")
	for name := range strings.FieldsSeq(out) {
		if !strings.HasSuffix(name, "-pause") && !strings.HasSuffix(name, "-redis") {
			names = append(names, name)
		}
	}
	return names
}

// container is one of a pod.
type container struct {
	pod  *pod
	name string
}

// spec says what a container runs.
type spec struct {
	image   string
	user    string // "1000:1000"
	groups  []int  // besides
	env     []string
	command []string
	program string // in the place of the image's own
}

// entrypoint names another program, and its first arguments.
func (s spec) entrypoint(program string, args ...string) spec {
	s.program = program
	s.command = append(args, s.command...)
	return s
}

// run starts a container as a hardened pod's: nothing to write to but the volume,
// no capabilities, nothing to gain.
func (p *pod) run(name string, s spec) *container {
	p.t.Helper()
	args := []string{
		"run", "--detach", "--name", p.name + "-" + name, "--network", "container:" + p.name + "-pause",
		"--volume", p.name + ":/run/sidecar", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--user", s.user,
	}
	for _, g := range s.groups {
		args = append(args, "--group-add", strconv.Itoa(g))
	}
	for _, e := range s.env {
		args = append(args, "--env", e)
	}
	if s.program != "" {
		args = append(args, "--entrypoint", s.program)
	}
	docker(p.t, append(append(args, s.image), s.command...)...)
	return &container{p, p.name + "-" + name}
}

// redisEnv is what a container is told that speaks to Redis.
func (p *pod) redisEnv(more ...string) []string {
	return append([]string{
		"REDIS_HOST=" + p.redis, "REDIS_PASSWORD=" + password, "REDIS_KEY_PREFIX=" + p.prefix, "SIDECAR_LOG_FORMAT=text",
	}, more...)
}

func (c *container) logs() string {
	out, _ := try("logs", c.name)
	return out
}

func (c *container) says(text string) {
	c.pod.t.Helper()
	wait.Until(c.pod.t, c.name+" to say "+strconv.Quote(text), func() bool { return strings.Contains(c.logs(), text) })
}

// killed kills it and starts it again, as the kubelet does.
func (c *container) killed() {
	c.pod.t.Helper()
	docker(c.pod.t, "kill", "--signal", "KILL", c.name)
	docker(c.pod.t, "wait", c.name)
	docker(c.pod.t, "start", c.name)
}

// stop stops it as the kubelet does, and expects that it ends well and by itself.
func (c *container) stop() {
	c.pod.t.Helper()
	if out, err := try("stop", "--time", "40", c.name); err != nil {
		c.pod.t.Errorf("%v: %s", err, out)
	}
	if code, _ := try("inspect", "--format", "{{.State.ExitCode}}", c.name); code != "0" {
		c.pod.t.Errorf("%s ended with status %s", c.name, code)
	}
}

// processes are those of the container as the host sees them, each with its
// state.
func (c *container) processes() (states []string) {
	out, err := try("top", c.name, "-o", "stat,pid,args")
	if err != nil {
		c.pod.t.Errorf("docker top: %v %s", err, out)
	}
	lines := strings.Split(out, "\n")
	return lines[1:]
}

// noZombies waits until every process in the containers is one that runs.
func (p *pod) noZombies(cs ...*container) {
	p.t.Helper()
	for _, c := range cs {
		wait.Until(p.t, "no zombie in "+c.name, func() bool {
			return !slices.ContainsFunc(c.processes(), func(line string) bool { return strings.HasPrefix(strings.TrimSpace(line), "Z") })
		})
	}
}

// produce runs the producer beside Redis; its answer comes on the channel.
func (p *pod) produce(tasks int, each time.Duration) <-chan string {
	answer := make(chan string, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	go func() {
		defer cancel()
		out, err := exec.CommandContext(ctx, "docker", "run", "--rm", "--name", p.name+"-producer", "--network", "container:"+p.name+"-redis",
			"--volume", testdata()+":/t:ro", "--env", "PRODUCER_PASSWORD="+password, "--env", "PRODUCER_PREFIX="+p.prefix,
			"--entrypoint", "python3", p.worker, "/t/squares.py", strconv.Itoa(tasks), strconv.FormatFloat(each.Seconds(), 'f', -1, 64)).CombinedOutput()
		if err != nil {
			answer <- fmt.Sprintf("%v: %s", err, out)
			return
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		answer <- lines[len(lines)-1]
	}()
	return answer
}
