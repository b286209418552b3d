package config

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestWorkerSocket(t *testing.T) {
	s := mustLoad(t, []string{"SIDECAR_WORKER_SOCKET=/run/sidecar/worker.sock"})
	if got := s.App.Worker.Socket; got.Path != "/run/sidecar/worker.sock" || got.Mode != 0o660 {
		t.Errorf("%+v", got)
	}
	s = mustLoad(t, []string{"SIDECAR_WORKER_SOCKET=/s", "SIDECAR_WORKER_SOCKET_MODE=600", "SIDECAR_GRAFLOW=1", "SIDECAR_PREFORK=1"})
	if got := s.App.Worker; got.Socket.Mode != 0o600 || !got.Graflow || s.Prefork || len(got.Command) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestWhatDoesNotGoWithAWorkerSocket(t *testing.T) {
	const socket = "SIDECAR_WORKER_SOCKET=/s"
	for _, c := range []struct {
		env   []string
		args  []string
		usage bool
		want  string
	}{
		{[]string{socket}, worker, true, "it comes after sidecar connect -- in the worker's container"},
		{[]string{socket, "SIDECAR_MODE=exec"}, nil, false, "SIDECAR_WORKER_SOCKET goes with rpc only"},
		{[]string{socket, "SIDECAR_MAX_CHILD_RSS=1G"}, nil, false, "SIDECAR_MAX_CHILD_RSS does not go with SIDECAR_WORKER_SOCKET"},
		{[]string{socket, "SIDECAR_WORKER_SOCKET_MODE=0666"}, nil, false, "with no rights for others"},
		{[]string{socket, "SIDECAR_WORKER_SOCKET_MODE=0060"}, nil, false, "an octal number from 0600 to 0770"},
		{[]string{socket, "SIDECAR_WORKER_SOCKET_MODE=rw"}, nil, false, "as in 0600"},
		{[]string{"SIDECAR_WORKER_SOCKET=run/s"}, nil, false, "must be an absolute path"},
		{[]string{"SIDECAR_WORKER_SOCKET=/" + strings.Repeat("x", 94)}, nil, false, "of at most 94 bytes"},
	} {
		t.Run(c.want, func(t *testing.T) {
			_, err := load(t, c.env, c.args...)
			var usage *UsageError
			var bad *Error
			if is := errors.As(err, &usage); is != c.usage && !strings.Contains(err.Error(), "no worker") || (!is && !errors.As(err, &bad)) {
				t.Fatalf("%T %v", err, err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func loadConnect(t *testing.T, env []string, args ...string) (Connect, error) {
	t.Helper()
	setEnvironment(t, env)
	l := NewLoader()
	fs := pflag.NewFlagSet("connect", pflag.ContinueOnError)
	l.AddConnectFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return l.LoadConnect(fs.Args())
}

// TestConnectNeedsNoRedis, and what others mean for a sidecar is none of its
// business, right or wrong.
func TestConnectNeedsNoRedis(t *testing.T) {
	c, err := loadConnect(t, []string{
		"SIDECAR_WORKER_SOCKET=/run/s", "REDIS_PORT=nonsense", "MAX_CONCURRENT_TASKS=-1", "SIDECAR_KILL_GRACE=2s",
		"REDIS_PASSWORD=hush", "KEPT=1", "SIDECAR_WORKER_DIR=/tmp",
	}, "--", "w", "--flag")
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != "/run/s" || !slices.Equal(c.Command, []string{"w", "--flag"}) || c.KillGrace.Seconds() != 2 || c.Dir != "/tmp" || c.ShutdownTimeout.Seconds() != 25 {
		t.Errorf("%+v", c)
	}
	if !slices.Contains(c.Env, "KEPT=1") || strings.Contains(strings.Join(c.Env, " "), "hush") {
		t.Errorf("%v", c.Env)
	}
	// What a service link says of Redis would lead around the sidecar's.
	c, err = loadConnect(t, []string{"SIDECAR_GRAFLOW=true", "REDIS_HOST=redis", "REDIS_PORT=tcp://10.0.0.1:6379"}, "--socket=/s")
	if err != nil || !c.Graflow || len(c.Command) != 0 || strings.Contains(strings.Join(c.Env, " "), "REDIS_HOST") {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestWhatConnectRefuses(t *testing.T) {
	for _, c := range []struct {
		env   []string
		args  []string
		usage bool
		want  string
	}{
		{nil, worker, true, "no socket: give the sidecar's with --socket"},
		{nil, []string{"--socket=/s"}, true, "no worker: give its command after --"},
		{nil, []string{"--socket=/s", "w"}, true, "the worker's command comes after --"},
		{nil, []string{"--socket=/s", "--graflow", "--", "w"}, true, "exclude each other"},
		{nil, []string{"--socket=s", "--", "w"}, true, "--socket is \"s\", and must be an absolute path"},
		{[]string{"SIDECAR_WORKER_SOCKET=s"}, worker, false, "SIDECAR_WORKER_SOCKET is \"s\", and must be an absolute path"},
		{[]string{"SIDECAR_SOCKETS=/s"}, []string{"--socket=/s", "--", "w"}, false, "SIDECAR_SOCKETS is not known"},
	} {
		t.Run(c.want, func(t *testing.T) {
			_, err := loadConnect(t, c.env, c.args...)
			var usage *UsageError
			var bad *Error
			if is := errors.As(err, &usage); is != c.usage || (!is && !errors.As(err, &bad)) {
				t.Fatalf("%T %v", err, err)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, c.want)
			}
		})
	}
}
