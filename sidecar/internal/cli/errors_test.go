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
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// Every error that ends a command has an id, and every id of the list is some error's.
func TestErrorsHaveIDs(t *testing.T) {
	cause := errors.New("a cause")
	used := map[string]bool{}
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{failure{cause}, ""},
		{cause, logdocs.UsageError}, // cobra's
		{&config.UsageError{Err: cause}, logdocs.UsageError},
		{&config.Error{Err: cause}, logdocs.ConfigError},
		{failure{&app.RefusedError{Err: cause}}, logdocs.RedisRefused},
		{failure{&app.LocalRedisError{Err: cause}}, logdocs.EmbeddedRedisEnded},
		{failure{errors.Join(&app.StartError{}, &app.LocalRedisError{Err: cause})}, logdocs.EmbeddedRedisEnded},
		{failure{&app.StartError{Reason: "no such file"}}, logdocs.WorkerStartFailure},
		{failure{&app.CrashLoopError{}}, logdocs.CrashLoop},
		{failure{&app.PanicError{}}, logdocs.InternalError},
		{&StatusError{Status: 75, Err: cause}, logdocs.RedisUnreachable},
		{&StatusError{Status: 69, Err: cause}, logdocs.RedisRefused},
		{failure{&app.RefusedError{Err: &redis.FormatError{}}}, logdocs.RedisFormat},
		{&StatusError{Status: 69, Err: &redis.FormatError{}}, logdocs.RedisFormat},
		{&StatusError{Status: 1, Err: cause}, ""},
		{&StatusError{Status: 64, Err: cause}, ""}, // it has one line, with the remedy
		{failure{&host.StalledError{Grace: time.Second, Budget: time.Second}}, logdocs.InternalError},
		{failure{errors.Join(&app.StartError{}, &app.RefusedError{Err: cause})}, logdocs.RedisRefused}, // as its status
	} {
		got := explainID(c.err)
		if got != c.want {
			t.Errorf("%T: %q, want %q", c.err, got, c.want)
		}
		used[got] = true
	}
	if i := slices.IndexFunc(logdocs.Errors, func(id string) bool { return !used[id] }); i >= 0 {
		t.Errorf("no error has the id %s", logdocs.Errors[i])
	}
}

// TestTheWatchdogsWords are those of a bug, with the budget and the status 70.
func TestTheWatchdogsWords(t *testing.T) {
	err := failure{&host.StalledError{Grace: time.Second, Budget: 25 * time.Second}}
	var out bytes.Buffer
	explain(&out, err, "sidecar run")
	if exitStatus(err) != exitInternal || !strings.Contains(out.String(), "25s") || !strings.Contains(out.String(), "sidecar explain internal-error") {
		t.Errorf("status %d: %s", exitStatus(err), out.String())
	}
}
