//go:build lifecycle

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// job is a record of these tests.
type job struct {
	TaskID    string  `json:"task_id"`
	SessionID string  `json:"session_id"`
	GroupID   string  `json:"group_id,omitempty"`
	CreatedAt float64 `json:"created_at"`
	Do        string  `json:"do,omitempty"`
	Path      string  `json:"path,omitempty"`
	For       string  `json:"for,omitempty"`
}

// serveTasks is the worker.
func serveTasks() int {
	err := protocol.Serve(context.Background(), func(ctx context.Context, t *protocol.Task) (any, error) {
		var j job
		if err := t.Decode(&j); err != nil {
			return nil, err
		}
		return j.run(ctx)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (j *job) run(ctx context.Context) (any, error) {
	switch j.Do {
	case "gate": // until the file Path is there; Path.started says that it began
		if err := os.WriteFile(j.Path+".started", nil, 0o600); err != nil {
			return nil, err
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := os.Stat(j.Path); err == nil {
				return j.TaskID + " done", nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	case "sleep":
		d, err := time.ParseDuration(j.For)
		if err != nil {
			return nil, err
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	case "defy": // ends by SIGKILL only, and has a child that does so too
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		cmd := exec.Command("sleep", "600")
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if err := os.WriteFile(j.Path+".started", fmt.Append(nil, cmd.Process.Pid), 0o600); err != nil {
			return nil, err
		}
		select {}
	case "environment":
		var env []string
		for _, kv := range os.Environ() {
			if strings.HasPrefix(kv, "REDIS_") {
				env = append(env, kv)
			}
		}
		return env, nil
	case "shell": // runs the script in Path
		if err := exec.CommandContext(ctx, "/bin/sh", "-c", j.Path).Run(); err != nil {
			return nil, err
		}
	case "fail":
		return nil, errors.New("no luck")
	}
	return j.TaskID + " done", nil
}
