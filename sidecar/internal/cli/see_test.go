package cli

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/host"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
)

// Whatever can end a command is explained, and every topic is some error's.
func TestEveryErrorHasItsTopic(t *testing.T) {
	cause := errors.New("a cause")
	used := map[logdocs.Topic]bool{}
	for _, c := range []struct {
		err  error
		want logdocs.Topic
	}{
		{nil, ""},
		{failure{cause}, ""},
		{cause, logdocs.Usage}, // cobra's
		{&config.UsageError{Err: cause}, logdocs.Usage},
		{&config.Error{Err: cause}, logdocs.Config},
		{failure{&app.RefusedError{Err: cause}}, logdocs.Refused},
		{failure{&app.LocalRedisError{Err: cause}}, logdocs.EmbeddedRedis},
		{failure{errors.Join(&app.StartError{}, &app.LocalRedisError{Err: cause})}, logdocs.EmbeddedRedis},
		{failure{&app.StartError{Reason: "no such file"}}, logdocs.WorkerStart},
		{failure{&app.CrashLoopError{}}, logdocs.CrashLoop},
		{failure{&app.PanicError{}}, logdocs.Bug},
		{&StatusError{Status: 75, Err: cause}, logdocs.Unreachable},
		{&StatusError{Status: 69, Err: cause}, logdocs.Refused},
		{&StatusError{Status: 1, Err: cause}, ""},
		{failure{&host.StalledError{Grace: time.Second, Budget: time.Second}}, logdocs.Bug},
		{failure{errors.Join(&app.StartError{}, &app.RefusedError{Err: cause})}, logdocs.Refused}, // as its status
	} {
		got := topic(c.err)
		if got != c.want {
			t.Errorf("%T: %q, want %q", c.err, got, c.want)
		}
		used[got] = true
	}
	if i := slices.IndexFunc(logdocs.Topics, func(topic logdocs.Topic) bool { return !used[topic] }); i >= 0 {
		t.Errorf("no error is of the topic %s", logdocs.Topics[i])
	}
}

// TestTheWatchdogsWords are those of a bug, with the budget and the status 70.
func TestTheWatchdogsWords(t *testing.T) {
	err := failure{&host.StalledError{Grace: time.Second, Budget: 25 * time.Second}}
	var out bytes.Buffer
	explain(&out, err)
	if exitStatus(err) != exitInternal || !strings.Contains(out.String(), "25s") || !strings.Contains(out.String(), "operations.md#internal-error") {
		t.Errorf("status %d: %s", exitStatus(err), out.String())
	}
}
