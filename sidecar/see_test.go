package main

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/internal/cli"
	"github.com/graflow/graflow-sidecar/sidecar/internal/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/runbook"
)

// Whatever can end a command is explained, and every topic is some error's.
func TestEveryErrorHasItsTopic(t *testing.T) {
	cause := errors.New("a cause")
	used := map[runbook.Topic]bool{}
	for _, c := range []struct {
		err  error
		want runbook.Topic
	}{
		{nil, ""},
		{failure{cause}, ""},
		{cause, runbook.Usage}, // cobra's
		{&config.UsageError{Err: cause}, runbook.Usage},
		{&app.ConfigError{Err: cause}, runbook.Config},
		{failure{&app.RefusedError{Err: cause}}, runbook.Refused},
		{failure{&app.LocalRedisError{Err: cause}}, runbook.EmbeddedRedis},
		{failure{errors.Join(&app.StartError{}, &app.LocalRedisError{Err: cause})}, runbook.EmbeddedRedis},
		{failure{&app.StartError{Reason: "no such file"}}, runbook.WorkerStart},
		{failure{&app.CrashLoopError{}}, runbook.CrashLoop},
		{failure{&app.PanicError{}}, runbook.Bug},
		{&cli.StatusError{Status: 75, Err: cause}, runbook.Unreachable},
		{&cli.StatusError{Status: 69, Err: cause}, runbook.Refused},
		{&cli.StatusError{Status: 1, Err: cause}, ""},
		{failure{&stuckError{time.Second, time.Second}}, runbook.Bug},
		{failure{errors.Join(&app.StartError{}, &app.RefusedError{Err: cause})}, runbook.Refused}, // as its status
	} {
		got := topic(c.err)
		if got != c.want {
			t.Errorf("%T: %q, want %q", c.err, got, c.want)
		}
		used[got] = true
	}
	if i := slices.IndexFunc(runbook.Topics, func(topic runbook.Topic) bool { return !used[topic] }); i >= 0 {
		t.Errorf("no error is of the topic %s", runbook.Topics[i])
	}
}
