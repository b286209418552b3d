package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Names of what is measured; results.go compares them with each other.
const (
	nullSidecar = "null sidecar (a)"
	nullBatch1  = "null, batch 1, one connection"
	goChild     = "sidecar, Go child (b)"
	pythonChild = "sidecar, Python SDK (c)"
	pythonPipe  = "bare pipe to the same Python child"
	graflowTask = "sidecar --graflow, no-op task (d)"
	graflowOwn  = "Graflow's worker (e)"
	rq          = "RQ, SimpleWorker"
	celery      = "Celery, prefork of 2"
	asynq       = "asynq, 10 at once"
	execMode    = "mode exec, /bin/true (f)"
	forkExec    = "bare fork+exec of /bin/true"
	latency     = "latency, sidecar (g)"
	latencyBare = "latency, bare sum"
	latencyBusy = "latency beside a backlog of slow tasks"
	idle        = "idle (h)"
	idleBare    = "idle, a tick and a wait and nothing else"
	startUp     = "start to first task"
	binary      = "binary"
)

// Units of processor time.
const (
	allCPU     = "CPU µs/task"
	workersCPU = "CPU µs/task, its worker's part"
	redisCPU   = "Redis' CPU µs/task"
)

// privateDirty is the unit of the memory that a node pays for a process.
const privateDirty = "private dirty MB"

const slots = 64

// sidecarEnv is the environment of every sidecar that is measured. All that is
// not here has its default.
func (b *bench) sidecarEnv(more ...string) []string {
	return append([]string{
		"REDIS_URL=" + b.server.url(), "REDIS_KEY_PREFIX=" + prefix, "LOG_LEVEL=WARNING",
		"MAX_CONCURRENT_TASKS=" + strconv.Itoa(slots),
	}, more...)
}

func (b *bench) program(name string) string { return filepath.Join(b.bin, name) }

// goWorker is this program as a worker of some slots.
func goWorker(slots int) string { return roleVariable + "=" + strconv.Itoa(slots) }

func self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

func (b *bench) measures() []measure {
	list := []measure{
		{name: nullSidecar, do: b.rate(nullSidecar, 100_000, recordSize, nil, func() (*subject, error) {
			return start(b.sidecarEnv(), b.program("sidecar-null"), "run", "--", "none")
		})},
		{name: goChild, do: b.rate(goChild, 100_000, recordSize, nil, func() (*subject, error) { return b.withGo(slots, slots) })},
		{name: nullBatch1, do: b.rate(nullBatch1, 3_000, recordSize, nil, func() (*subject, error) {
			return b.bare()
		})},
		{name: pythonChild, do: b.rate(pythonChild, 40_000, recordSize, nil, func() (*subject, error) {
			return start(b.sidecarEnv(b.pythonPath()), append([]string{b.program("sidecar"), "run", "--"}, b.pythonEcho()...)...)
		})},
		{name: pythonPipe, do: b.pythonCeiling},
		{name: execMode, do: b.rate(execMode, 1_500, recordSize, nil, func() (*subject, error) {
			return start(b.sidecarEnv("SIDECAR_MODE=exec", "MAX_CONCURRENT_TASKS=4"), b.program("sidecar"), "run", "--", "/bin/true")
		})},
		{name: forkExec, do: b.forkExec},
		{name: graflowTask, do: b.graflow(graflowTask, 3_000, func() (*subject, error) {
			return start(b.sidecarEnv("MAX_CONCURRENT_TASKS=4", "SIDECAR_PYTHON="+b.python), b.program("sidecar"), "run", "--graflow")
		})},
		{name: graflowOwn, do: b.graflow(graflowOwn, 1_000, func() (*subject, error) {
			return start([]string{
				"REDIS_HOST=127.0.0.1", "REDIS_PORT=" + strconv.Itoa(b.server.port), "REDIS_KEY_PREFIX=" + prefix, "LOG_LEVEL=WARNING",
			}, b.python, "-m", "graflow.worker.main")
		})},
		{name: latency, do: b.latency(latency, func() (*subject, error) { return b.withGo(slots, slots) }, 0)},
		{name: latencyBare, do: b.latency(latencyBare, func() (*subject, error) {
			return b.bare(self())
		}, 0)},
		{name: latencyBusy, do: b.latency(latencyBusy, func() (*subject, error) { return b.withGo(slots, slots) }, slots*3/4)},
		{name: idle, do: b.idleOf(idle, func() (*subject, error) { return b.withGo(slots, slots) })},
		{name: idleBare, do: b.idleFloor, once: b.only.String() == ""}, // seconds count in a full run
		{name: startUp, do: b.startUp},
		{name: binary, do: b.binarySize, once: true},
	}
	list = append(list, b.peers()...)
	return append(list, b.sweeps()...)
}

// withGo is a sidecar with a Go worker of so many tasks at once.
func (b *bench) withGo(slots, perChild int) (*subject, error) {
	return start(b.sidecarEnv("MAX_CONCURRENT_TASKS="+strconv.Itoa(slots), goWorker(perChild)),
		b.program("sidecar"), "run", "--", self())
}

// bare is the least that can stand between Redis and a worker.
func (b *bench) bare(worker ...string) (*subject, error) {
	return start([]string{goWorker(slots)}, append([]string{b.program("bare"), "-redis", b.server.url(), "-prefix", prefix}, worker...)...)
}

func (b *bench) pythonPath() string {
	return "PYTHONPATH=" + filepath.Join("examples", "python-worker")
}

func (b *bench) pythonEcho() []string {
	return []string{b.python, filepath.Join("bench", "python", "echo.py"), strconv.Itoa(slots)}
}

// rate measures a subject's tasks a second.
func (b *bench) rate(name string, n, size int, template map[string]string, begin func() (*subject, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		n := b.count(n)
		if err := b.push(ctx, template, "load", n, size); err != nil {
			return err
		}
		s, err := begin()
		if err != nil {
			return err
		}
		defer s.stop()
		l, err := b.throughput(ctx, s, "load", n)
		if err != nil {
			return s.explain(err)
		}
		b.results.add(name, "tasks/s", l.perSecond)
		b.results.add(name, allCPU, float64(l.cpuATask.Nanoseconds())/1e3)
		b.results.add(name, workersCPU, float64((l.cpuATask-l.ownATask).Nanoseconds())/1e3)
		b.results.add(name, redisCPU, float64(l.redisATask.Nanoseconds())/1e3)
		return nil
	}
}

func (b *bench) pythonCeiling(ctx context.Context) error {
	echo := b.pythonEcho()
	perSecond, cpu, err := ceiling(ctx, b.count(50_000), slots, []string{b.pythonPath()}, echo...)
	b.results.add(pythonPipe, "tasks/s", perSecond)
	b.results.add(pythonPipe, workersCPU, float64(cpu.Nanoseconds())/1e3)
	return err
}

func (b *bench) forkExec(ctx context.Context) error {
	perSecond, cpu, err := forks(ctx, b.count(1_500), 4, "/bin/true")
	b.results.add(forkExec, "tasks/s", perSecond)
	b.results.add(forkExec, "CPU µs/task", float64(cpu.Nanoseconds())/1e3)
	return err
}

// graflow measures with tasks of a real graph.
func (b *bench) graflow(name string, n int, begin func() (*subject, error)) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, b.python, filepath.Join("bench", "python", "graph.py"))
		cmd.Env = append(os.Environ(), "REDIS_URL="+b.server.url(), "REDIS_KEY_PREFIX="+prefix)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("graph.py: %w: %s", err, errs.String())
		}
		var template map[string]string
		if err := json.Unmarshal(bytes.TrimSpace(out[bytes.LastIndexByte(bytes.TrimSpace(out), '\n')+1:]), &template); err != nil {
			return fmt.Errorf("graph.py printed %q: %w", out, err)
		}
		return b.rate(name, n, recordSize, template, begin)(ctx)
	}
}

// latency measures single tasks, with so many slow ones running beside them.
func (b *bench) latency(name string, begin func() (*subject, error), slow int) func(context.Context) error {
	return func(ctx context.Context) error {
		for i := range slow {
			text := fmt.Sprintf(`{"task_id": "slow_%d", "session_id": "s", "created_at": 1.0, "group_id": null, "slow": true}`, i)
			if err := b.server.client.RPush(ctx, prefix+":queue", text).Err(); err != nil {
				return err
			}
		}
		s, err := begin()
		if err != nil {
			return err
		}
		defer s.kill()
		list, err := b.latencies(ctx, s, b.count(250), 2*time.Millisecond)
		if err != nil {
			return s.explain(err)
		}
		b.results.add(name, "p50 ms", float64(quantile(list, 0.5).Microseconds())/1e3)
		b.results.add(name, "p99 ms", float64(quantile(list, 0.99).Microseconds())/1e3)
		return nil
	}
}

// idleOf looks at a sidecar with nothing to do.
func (b *bench) idleOf(name string, begin func() (*subject, error)) func(context.Context) error {
	return func(ctx context.Context) error { return b.idle(ctx, name, begin) }
}

func (b *bench) idle(ctx context.Context, name string, begin func() (*subject, error)) error {
	s, err := begin()
	if err != nil {
		return err
	}
	defer s.stop()
	if err := b.push(ctx, nil, "load", 1, recordSize); err != nil {
		return err
	}
	if err := b.awaitCounter(ctx, s, "load", 1); err != nil {
		return s.explain(err)
	}
	if err := sleep(ctx, time.Second); err != nil {
		return err
	}
	const span = 4 * time.Second
	before, err := b.server.commands(ctx)
	if err != nil {
		return err
	}
	cpu := s.cpuNanoseconds()
	if err := sleep(ctx, span); err != nil {
		return err
	}
	cpu = s.cpuNanoseconds() - cpu
	after, err := b.server.commands(ctx)
	if err != nil {
		return err
	}
	dirty, err := s.dirty()
	if err != nil {
		return err
	}
	b.results.add(name, "commands/s", float64(after-before)/span.Seconds())
	b.results.add(name, "CPU % of a core", float64(cpu)/float64(span.Nanoseconds())*100)
	b.results.add(name, privateDirty, float64(dirty)/1e6)
	b.results.add(name, "RSS MB", float64(s.own().rss)/1e6)
	return nil
}

// binarySize is that of the stripped, static binary.
func (b *bench) binarySize(context.Context) error {
	info, err := os.Stat(b.program("sidecar"))
	if err == nil {
		b.results.add(binary, "MB", float64(info.Size())/1e6)
	}
	return err
}

// startUp measures from the start of the binary to the end of its first task.
func (b *bench) startUp(ctx context.Context) error {
	if err := b.push(ctx, nil, "load", 1, recordSize); err != nil {
		return err
	}
	began := time.Now()
	s, err := b.withGo(slots, slots)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := b.awaitCounter(ctx, s, "load", 1); err != nil {
		return s.explain(err)
	}
	b.results.add(startUp, "ms", float64(time.Since(began).Microseconds())/1e3)
	return nil
}
