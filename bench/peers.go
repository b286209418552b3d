package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// peers are other systems with a task that does nothing, each with its defaults.
func (b *bench) peers() []measure {
	script := func(args ...string) []string {
		return append([]string{b.python, filepath.Join("bench", "python", "peers.py")}, args...)
	}
	python := "PYTHONPATH=" + filepath.Join("bench", "python")
	return []measure{
		{name: rq, needs: b.lacks("rq"), do: b.peer(rq, 400, "rq:queue:default", script("rq"), []string{python},
			b.python, "-m", "rq.cli", "worker", "--worker-class", "rq.SimpleWorker", "--quiet", "--url", b.server.url())},
		{name: celery, needs: b.lacks("celery"), do: b.peer(celery, 1_000, "celery", script("celery"), []string{python},
			b.python, "-m", "celery", "--quiet", "-A", "noop", "worker", "--concurrency", "2", "--loglevel", "error",
			"--without-gossip", "--without-mingle")},
		{name: asynq, needs: b.missing("asynq"), do: b.peer(asynq, 10_000, "asynq:{default}:pending", []string{b.program("asynq")}, nil,
			b.program("asynq"))},
	}
}

func (b *bench) lacks(module string) string {
	if exec.Command(b.python, "-c", "import "+module).Run() != nil {
		return module + " is not installed for " + filepath.Base(b.python)
	}
	return ""
}

func (b *bench) missing(program string) string {
	if _, err := os.Stat(b.program(program)); err != nil {
		return program + " was not built"
	}
	return ""
}

// peer fills a peer's queue and measures how fast the peer empties it, from four
// fifths of it on, when all workers are warm.
func (b *bench) peer(name string, n int, list string, fill, env []string, command ...string) func(context.Context) error {
	env = append(env, "REDIS_URL="+b.server.url())
	return func(ctx context.Context) error {
		n := b.count(n)
		producer := exec.CommandContext(ctx, fill[0], append(fill[1:], strconv.Itoa(n))...)
		producer.Env = append(os.Environ(), env...)
		if out, err := producer.CombinedOutput(); err != nil {
			return fmt.Errorf("filling the queue: %w: %s", err, out)
		}
		s, err := start(env, command...)
		if err != nil {
			return err
		}
		defer s.kill()
		var from time.Time
		var first int64
		for {
			left, err := b.server.client.LLen(ctx, list).Result()
			switch {
			case err != nil:
				return s.explain(err)
			case left == 0 && first > 0:
				b.results.add(name, "tasks/s", float64(first)/time.Since(from).Seconds())
				return nil
			case left == 0:
				return s.explain(fmt.Errorf("the queue %s was empty at once", list))
			case first == 0 && left <= int64(n)*4/5:
				from, first = time.Now(), left
			}
			select {
			case <-s.done:
				return s.explain(errEnded)
			default:
			}
			if err := sleep(ctx, time.Millisecond); err != nil {
				return s.explain(err)
			}
		}
	}
}
