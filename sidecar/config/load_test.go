package config

import (
	"errors"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load runs one Load with exactly the given environment and command line.
func load(t *testing.T, env []string, args ...string) (Settings, error) {
	t.Helper()
	setEnvironment(t, env)
	l := NewLoader()
	fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
	l.AddFlags(fs)
	l.AllowAbbreviations()
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return l.Load(fs.Args())
}

// setEnvironment replaces the whole environment until the test's end.
func setEnvironment(t *testing.T, env []string) {
	t.Helper()
	before := os.Environ()
	restore := func(entries []string) {
		os.Clearenv()
		for _, e := range entries {
			name, value, _ := strings.Cut(e, "=")
			if err := os.Setenv(name, value); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(func() { restore(before) })
	restore(env)
}

func mustLoad(t *testing.T, env []string, args ...string) Settings {
	t.Helper()
	s, err := load(t, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var worker = []string{"--", "./w", "-v"}

func TestDefaults(t *testing.T) {
	s := mustLoad(t, nil, worker...)
	want := Default()
	want.HTTP.Addr = defaultHTTPAddr // none for a program that embeds the sidecar
	want.Worker.Command = []string{"./w", "-v"}
	want.Worker.Env = []string{}
	want.HTTP.Addr = "127.0.0.1:0" // the command's own: a library serves nothing unless told
	if !reflect.DeepEqual(s.App, want) {
		t.Errorf("got\n%+v\nwant\n%+v", s.App, want)
	}
	if s.LogLevel != slog.LevelInfo || s.LogFormat != LogAuto || s.Python != "python3" {
		t.Errorf("got %v %v %v", s.LogLevel, s.LogFormat, s.Python)
	}
}

// Graflow's own defaults (graflow/worker/main.py), which the sidecar must not
// change under its users.
func TestDefaultsAreGraflows(t *testing.T) {
	c := Default()
	if c.Redis.Host != "localhost" || c.Redis.Port != 6379 || c.Redis.DB != 0 || c.KeyPrefix != "graflow" ||
		c.Slots != 4 || c.PollInterval != 100*time.Millisecond || c.Worker.LogLevel != "INFO" {
		t.Errorf("%+v", c)
	}
	if id := defaultWorkerID(); !strings.HasPrefix(id, "worker_") {
		t.Errorf("worker id %s", id)
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		name string
		env  string
		get  func(Settings) any
		want any
	}{
		{"worker id", "WORKER_ID=w-1 é", func(s Settings) any { return s.App.WorkerID }, "w-1 é"},
		{"slots", "MAX_CONCURRENT_TASKS=16", func(s Settings) any { return s.App.Slots }, 16},
		{"spaces around", "MAX_CONCURRENT_TASKS= 16 ", func(s Settings) any { return s.App.Slots }, 16},
		{"empty is unset", "MAX_CONCURRENT_TASKS=", func(s Settings) any { return s.App.Slots }, 4},
		{"spaces are unset", "REDIS_PORT=  ", func(s Settings) any { return s.App.Redis.Port }, 6379},
		{"seconds as Graflow writes them", "POLL_INTERVAL=0.25", func(s Settings) any { return s.App.PollInterval }, 250 * time.Millisecond},
		{"Go's form", "POLL_INTERVAL=25ms", func(s Settings) any { return s.App.PollInterval }, 25 * time.Millisecond},
		{"prefix", "REDIS_KEY_PREFIX={g}:x", func(s Settings) any { return s.App.KeyPrefix }, "{g}:x"},
		{"level", "LOG_LEVEL=warning", func(s Settings) any { return s.LogLevel }, slog.LevelWarn},
		{"level, short", "LOG_LEVEL=WARN", func(s Settings) any { return s.App.Worker.LogLevel }, "WARNING"},
		{"level for the worker", "LOG_LEVEL=debug", func(s Settings) any { return s.App.Worker.LogLevel }, "DEBUG"},
		{"format", "SIDECAR_LOG_FORMAT=JSON", func(s Settings) any { return s.LogFormat }, LogJSON},
		{"side", "SIDECAR_QUEUE_SIDE=Right", func(s Settings) any { return s.App.QueueSide }, QueueRight},
		{"whole seconds", "SIDECAR_SHUTDOWN_TIMEOUT=40", func(s Settings) any { return s.App.ShutdownTimeout }, 40 * time.Second},
		{"no limit", "SIDECAR_TASK_TIMEOUT=0", func(s Settings) any { return s.App.TaskTimeout }, time.Duration(0)},
		{"task limit", "SIDECAR_TASK_TIMEOUT=1h30m", func(s Settings) any { return s.App.TaskTimeout }, 90 * time.Minute},
		{"jitter", "SIDECAR_RETRY_JITTER=0.25", func(s Settings) any { return s.App.Retry.Jitter }, 0.25},
		{"exec output", "SIDECAR_EXEC_OUTPUT=Latin1", func(s Settings) any { return s.App.Worker.ExecOutput }, ExecLatin1},
		{"max message", "SIDECAR_MAX_MESSAGE_BYTES=65536", func(s Settings) any { return s.App.Worker.MaxMessageBytes }, 65536},
		{"start retries", "SIDECAR_START_RETRIES=0", func(s Settings) any { return s.App.Worker.StartRetries }, 0},
		{"crash loop", "SIDECAR_CRASH_LOOP_EXIT=yes", func(s Settings) any { return s.App.Worker.CrashLoopExit }, true},
		{"tasks of a child", "SIDECAR_MAX_TASKS_PER_CHILD=500", func(s Settings) any { return s.App.Worker.MaxTasksPerChild }, 500},
		{"age of a child", "SIDECAR_MAX_CHILD_AGE=12h", func(s Settings) any { return s.App.Worker.MaxChildAge }, 12 * time.Hour},
		{"memory of a child", "SIDECAR_MAX_CHILD_RSS=512MiB", func(s Settings) any { return s.App.Worker.MaxChildRSS }, int64(512 << 20)},
		{"lent", "SIDECAR_MAX_LENT=0", func(s Settings) any { return s.App.Worker.MaxLent }, 0},
		{"python", "SIDECAR_PYTHON=/opt/py, thon", func(s Settings) any { return s.Python }, "/opt/py, thon"},
		{"health check", "SIDECAR_REDIS_HEALTH_CHECK_INTERVAL=10", func(s Settings) any { return s.App.Redis.HealthCheckInterval }, 10 * time.Second},
		{"bare names are not ours", "PYTHON=x", func(s Settings) any { return s.Python }, "python3"},
		{"nor is a MODE", "MODE=exec", func(s Settings) any { return s.App.Mode }, ModeRPC},
		{"mode", "SIDECAR_MODE=Exec", func(s Settings) any { return s.App.Mode }, ModeExec},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustLoad(t, []string{c.env}, worker...)
			if got := c.get(s); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%s: got %v, want %v", c.env, got, c.want)
			}
		})
	}
}

// What python -m graflow.worker.main takes in its environment and on its command line,
// as argparse, int, float and logging read it.
func TestWhatGraflowsWorkerTakes(t *testing.T) {
	level := func(s Settings) any { return [2]any{s.LogLevel, s.App.Worker.LogLevel} }
	poll := func(s Settings) any { return s.App.PollInterval }
	slots := func(s Settings) any { return s.App.Slots }
	for _, c := range []struct {
		env  string
		args string
		get  func(Settings) any
		want any
	}{
		{"POLL_INTERVAL=0", "", poll, time.Millisecond},
		{"POLL_INTERVAL=0.0001", "", poll, time.Millisecond},
		{"POLL_INTERVAL=1e-2", "", poll, 10 * time.Millisecond},
		{"POLL_INTERVAL=.5", "", poll, 500 * time.Millisecond},
		{"POLL_INTERVAL=7200", "", poll, 2 * time.Hour},
		{"", "--poll-interval 0", poll, time.Millisecond},
		{"MAX_CONCURRENT_TASKS=1_000", "", slots, 1000},
		{"MAX_CONCURRENT_TASKS=+04", "", slots, 4},
		{"LOG_LEVEL=NOTSET", "", level, [2]any{slog.LevelDebug, "NOTSET"}},
		{"LOG_LEVEL=DEBUG", "", level, [2]any{slog.LevelDebug, "DEBUG"}},
		{"LOG_LEVEL=INFO", "", level, [2]any{slog.LevelInfo, "INFO"}},
		{"LOG_LEVEL=WARN", "", level, [2]any{slog.LevelWarn, "WARNING"}},
		{"LOG_LEVEL=WARNING", "", level, [2]any{slog.LevelWarn, "WARNING"}},
		{"LOG_LEVEL=ERROR", "", level, [2]any{slog.LevelError, "ERROR"}},
		{"LOG_LEVEL=CRITICAL", "", level, [2]any{LevelCritical, "CRITICAL"}},
		{"LOG_LEVEL=FATAL", "", level, [2]any{LevelCritical, "CRITICAL"}},
		{"LOG_LEVEL=critical", "", level, [2]any{LevelCritical, "CRITICAL"}},
		{"", "--log-level CRITICAL", level, [2]any{LevelCritical, "CRITICAL"}},

		{"", "--worker-i w", func(s Settings) any { return s.App.WorkerID }, "w"},
		{"", "--work w", func(s Settings) any { return s.App.WorkerID }, "w"},
		{"", "--w=w", func(s Settings) any { return s.App.WorkerID }, "w"},
		{"", "--max 7", slots, 7},
		{"", "--m=7", slots, 7},
		{"", "--m 5 --max 6 --max-concurrent-tasks 7", slots, 7},
		{"", "--p 2", poll, 2 * time.Second},
		{"", "--redis-h=there", func(s Settings) any { return s.App.Redis.Host }, "there"},
		{"", "--redis-p 7000", func(s Settings) any { return s.App.Redis.Port }, 7000},
		{"", "--redis-d 3", func(s Settings) any { return s.App.Redis.DB }, 3},
		{"", "--redis-k k", func(s Settings) any { return s.App.KeyPrefix }, "k"},
		{"", "--log DEBUG", level, [2]any{slog.LevelDebug, "DEBUG"}},
		{"", "--l DEBUG", level, [2]any{slog.LevelDebug, "DEBUG"}},

		// Ours, which begin like Graflow's.
		{"", "--mode exec", func(s Settings) any { return s.App.Mode }, ModeExec},
		{"", "--log-format json", func(s Settings) any { return s.LogFormat }, LogJSON},
	} {
		t.Run(c.env+c.args, func(t *testing.T) {
			env := []string{}
			if c.env != "" {
				env = append(env, c.env)
			}
			s := mustLoad(t, env, append(strings.Fields(c.args), worker...)...)
			if got := c.get(s); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestFlagsThatAreNotClear(t *testing.T) {
	for _, args := range []string{"--redis x", "--redis- x", "--redis-x x", "--max-c0 1", "--repl 2", "--mo exec", "-w w"} {
		fs := pflag.NewFlagSet("run", pflag.ContinueOnError)
		l := NewLoader()
		l.AddFlags(fs)
		l.AllowAbbreviations()
		if err := fs.Parse(strings.Fields(args)); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
	// The kinds of worker, and not the beginning of --worker-id.
	if s := mustLoad(t, nil, "--worker", "a.*=./a"); len(s.App.Kinds) != 1 {
		t.Errorf("got %+v", s.App.Kinds)
	}
}

func TestEveryVariableIsRead(t *testing.T) {
	for _, v := range newVariables().all {
		t.Run(v.env, func(t *testing.T) {
			setEnvironment(t, []string{v.env + "=x y", "OTHER_" + v.env + "=z"})
			vs := newVariables()
			if err := vs.readEnvironment(); err != nil {
				t.Fatal(err)
			}
			for _, got := range vs.all {
				if want := map[bool]string{true: "x y"}[got.env == v.env]; got.fromEnv != want {
					t.Errorf("%s is %q, want %q", got.env, got.fromEnv, want)
				}
			}
		})
	}
}

func TestFlagsBeatTheEnvironment(t *testing.T) {
	env := []string{"REDIS_HOST=env", "REDIS_PORT=1", "WORKER_ID=env", "MAX_CONCURRENT_TASKS=oops", "LOG_LEVEL=ERROR"}
	s := mustLoad(t, env, "--redis-host", "flag", "--redis-port=2", "--worker-id", "flag", "--max-concurrent-tasks", "3",
		"--poll-interval", "1", "--redis-db", "5", "--redis-key-prefix", "p", "--log-level", "DEBUG", "--", "w", "--redis-port", "9")
	c := s.App
	if c.Redis.Host != "flag" || c.Redis.Port != 2 || c.WorkerID != "flag" || c.Slots != 3 || c.PollInterval != time.Second ||
		c.Redis.DB != 5 || c.KeyPrefix != "p" || s.LogLevel != slog.LevelDebug {
		t.Errorf("got %+v", c)
	}
	if want := []string{"w", "--redis-port", "9"}; !reflect.DeepEqual(c.Worker.Command, want) {
		t.Errorf("command %q, want %q", c.Worker.Command, want)
	}
	if s := mustLoad(t, []string{"REDIS_HOST=env"}, "--redis-host", "", "--", "w"); s.App.Redis.Host != "env" {
		t.Errorf("an empty flag: %s", s.App.Redis.Host)
	}
}

func TestWorkerCommand(t *testing.T) {
	if s := mustLoad(t, nil, "--graflow"); !s.App.Worker.Graflow || len(s.App.Worker.Command) != 0 {
		t.Errorf("--graflow: %+v", s.App.Worker)
	}
	if s := mustLoad(t, []string{"SIDECAR_GRAFLOW=true"}, "--graflow=false", "--", "w"); s.App.Worker.Graflow {
		t.Error("--graflow=false does not beat the environment")
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"neither", nil, nil, "no worker"},
		{"nothing after the dashes", nil, []string{"--"}, "no worker"},
		{"both", nil, []string{"--graflow", "--", "w"}, "exclude each other"},
		{"both, by environment", []string{"SIDECAR_GRAFLOW=1"}, []string{"--", "w"}, "SIDECAR_GRAFLOW and a worker's command"},
		{"no dashes", nil, []string{"./w"}, "comes after --, as in: sidecar run -- ./w"},
		{"some before the dashes", nil, []string{"a", "--", "b"}, "comes after --"},
		{"empty", nil, []string{"--", ""}, "is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.env, c.args...)
			var usage *UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want a UsageError with %q", err, c.want)
			}
		})
	}
}

func TestBadValues(t *testing.T) {
	for _, c := range []struct{ env, want string }{
		{"MAX_CONCURRENT_TASKS=four", `MAX_CONCURRENT_TASKS is "four", and must be a whole number from 1 to 4096`},
		{"MAX_CONCURRENT_TASKS=0", `is "0", and must be`},
		{"POLL_INTERVAL=-1", `POLL_INTERVAL is "-1", and must be a time from 0 to 8760h`},
		{"POLL_INTERVAL=inf", "must be a time"},
		{"MAX_CONCURRENT_TASKS=1__0", "must be a whole number"},
		{"POLL_INTERVAL=NaN", "must be a time"},
		{"SIDECAR_TASK_TIMEOUT=1e300", "must be a time from 0 to 8760h"},
		{"LOG_LEVEL=loud", `LOG_LEVEL is "loud", and must be DEBUG, INFO, WARNING, WARN, ERROR, CRITICAL, FATAL or NOTSET`},
		{"SIDECAR_MODE=http", `SIDECAR_MODE is "http", and must be rpc, exec or supervise`},
		{"SIDECAR_REPLICAS=2", "SIDECAR_REPLICAS goes with --mode supervise only: in mode rpc MAX_CONCURRENT_TASKS says"},
		{"SIDECAR_RETRY_JITTER=2", "a number from 0 to 1"},
		{"SIDECAR_RETRY_JITTER=NaN", "a number from 0 to 1"},
		{"SIDECAR_GRAFLOW=maybe", "true or false"},
		{"SIDECAR_MAX_CHILD_RSS=512M", `SIDECAR_MAX_CHILD_RSS is "512M", and must be 0 or a number of bytes, at least 1048576`},
		{"SIDECAR_MAX_CHILD_RSS=512", "must be 0 or a number of bytes"},
		{"SIDECAR_MAX_CHILD_AGE=-1h", "must be a time from 0 to 8760h"},
		{"SIDECAR_MAX_TASKS_PER_CHILD=-1", "must be a whole number from 0"},
		{"SIDECAR_MAX_LENT=9999", "must be a whole number from 0 to 4096"},
		{"SIDECAR_CRASH_LOOP_EXIT=70", "true or false"},
		{"SIDECAR_CHILD_ENV=A B", "names of variables"},
		{"SIDECAR_RETRY_BASE=2m", "SIDECAR_RETRY_BASE is 2m, and must not be more than SIDECAR_RETRY_MAX, which is 1m"},
		{"SIDECAR_RESTART_BACKOFF_MAX=1ms", "SIDECAR_RESTART_BACKOFF_MIN is 100ms, and must not be more than SIDECAR_RESTART_BACKOFF_MAX"},
		{"WORKER_ID=a\nb", "printable"},
		{"WORKER_ID=a\xffb", "printable"},
		{"REDIS_KEY_PREFIX=" + strings.Repeat("x", 300), "at most 256"},
		{"REDIS_HOST=localhost:6379", `REDIS_HOST is "localhost:6379": it takes the host alone, and REDIS_PORT the port`},
		{"REDIS_HOST=[::1]:6379", "it takes the host alone"},
		{"REDIS_URL=rediss://h/0?ssl_cert_reqs=none", "REDIS_URL has the option ssl_cert_reqs of another client: remove it, and set REDIS_TLS_INSECURE=true"},
		{"SIDECAR_QUEUE_SIZE=3", "SIDECAR_QUEUE_SIZE is not known; did you mean SIDECAR_QUEUE_SIDE?"},
	} {
		t.Run(c.env[:min(len(c.env), 40)], func(t *testing.T) {
			_, err := load(t, []string{c.env}, worker...)
			var bad *Error
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want a ConfigError with %q", err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 300) {
				t.Errorf("not one short line: %s", err)
			}
		})
	}
}

func TestAllThatIsWrongIsReportedAtOnce(t *testing.T) {
	_, err := load(t, []string{"REDIS_PORT=x", "LOG_LEVEL=y", "SIDECAR_X=z"}, "--redis-db", "-1", "--", "w")
	if _, ok := errors.AsType[*UsageError](err); !ok {
		t.Fatalf("a bad flag is a usage error, not %v", err)
	}
	for _, want := range []string{`--redis-db is "-1"`, `REDIS_PORT is "x"`, `LOG_LEVEL is "y"`, "SIDECAR_X is not known"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	fine := []string{
		"SIDECAR_PROCESS_ID=1", "SIDECAR_TASK_ID=1", "SIDECAR_SESSION_ID=1", "SIDECAR_GROUP_ID=1",
		"SIDECAR_ATTEMPT=1", "SIDECAR_DEADLINE=1",
		"SIDECAR_SERVICE_HOST=10.0.0.1", "SIDECAR_SERVICE_PORT=80", "SIDECAR_SERVICE_PORT_HTTP=80",
		"SIDECAR_PORT=tcp://10.0.0.1:80", "SIDECAR_PORT_8000_TCP=tcp://10.0.0.1:8000", "SIDECAR_PORT_8000_TCP_ADDR=10.0.0.1",
		"SIDECAR_WEB_SERVICE_HOST=10.0.0.1", "SIDECAR_WEB_PORT=udp://10.0.0.1:80", "SIDECAR_WEB_PORT_53_UDP_PROTO=udp",
		"SIDECAR_EMPTY=", "SIDECAR=1", "sidecar_mode=1",
	}
	mustLoad(t, fine, worker...)
	for name, near := range map[string]string{
		"SIDECAR_SHUTDOWN_TIME=1": "SIDECAR_SHUTDOWN_TIMEOUT", "SIDECAR_PYTON=1": "SIDECAR_PYTHON",
		"SIDECAR_PORT=80": "SIDECAR_HTTP_ADDR", "SIDECAR_CONCURRENCY=8": "MAX_CONCURRENT_TASKS", "SIDECAR_MAX_CONCURRENT_TASKS=8": "MAX_CONCURRENT_TASKS",
		"SIDECAR_REDIS_HOST=r": "REDIS_HOST", "SIDECAR_WORKER=x": "SIDECAR_WORKERS", "SIDECAR_WORKR_SLOTS=x": "SIDECAR_WORKER_SLOTS", "SIDECAR_MAX_ATEMPTS=1": "SIDECAR_MAX_ATTEMPTS",
	} {
		if _, err := load(t, []string{name}, worker...); err == nil || !strings.HasSuffix(err.Error(), "did you mean "+near+"?") {
			t.Errorf("%s: %v; want %s", name, err, near)
		}
	}
	if _, err := load(t, []string{"SIDECAR_QUITE_ANOTHER_THING=1"}, worker...); err == nil || strings.Contains(err.Error(), "mean") || !strings.Contains(err.Error(), "sidecar config") {
		t.Errorf("a name that is like none: %v", err)
	}
}

// TestSynonyms: each is of a setting that there is, and none is a setting's own name.
func TestSynonyms(t *testing.T) {
	vs := newVariables()
	for name, env := range synonyms {
		if !slices.ContainsFunc(vs.all, func(v *value) bool { return v.env == env }) {
			t.Errorf("%s stands for %s, which is no setting", name, env)
		}
		for _, v := range vs.all {
			if name == plainName(v.env) || name == plainName(v.flag) {
				t.Errorf("%s is the name of a setting", name)
			}
		}
		for _, text := range []string{name, "SIDECAR_" + name, strings.ToLower(strings.ReplaceAll(name, "_", "-"))} {
			if got, _ := Propose(text); got != env {
				t.Errorf("%s: %s, want %s", text, got, env)
			}
		}
	}
}

func TestChildEnvironment(t *testing.T) {
	env := []string{
		"PATH=/bin", "HOME=/root", "REDIS_URL=redis://u:p@h", "REDIS_HOST=h", "REDIS_RETRIES=7", "REDIS_TLS_SERVER_NAME=",
		"SIDECAR_KILL_GRACE=1", "OTEL_EXPORTER_OTLP_HEADERS=a=b",
		"REDIS_TLS_URL=rediss://:p@h", "REDIS_SENTINEL_PASSWORD=p", "REDIS_ACCESS_TOKEN=t", "REDISCLI_AUTH=p", "REDIS_CACHE_URL=redis://cache",
		"OTEL_EXPORTER_OTLP_METRICS_HEADERS=a=b", "OTEL_EXPORTER_OTLP_CLIENT_KEY=/k",
		"NOTIFY_SOCKET=/run/n", "LISTEN_FDS=1", "LISTEN_PID=7", "WATCHDOG_USEC=1",
	}
	for _, c := range []struct {
		name string
		add  []string
		args []string
		want []string
	}{
		{"any worker", nil, worker, []string{"PATH=/bin", "HOME=/root", "REDIS_HOST=h", "REDIS_RETRIES=7", "REDIS_TLS_SERVER_NAME="}},
		{"Graflow's", nil, []string{"--graflow"}, []string{"PATH=/bin", "HOME=/root", "REDIS_RETRIES=7", "REDIS_TLS_URL=rediss://:p@h", "REDIS_ACCESS_TOKEN=t", "REDISCLI_AUTH=p", "REDIS_CACHE_URL=redis://cache"}},
		{"a supervised one", nil, append([]string{"--mode", "supervise"}, worker...), []string{"PATH=/bin", "HOME=/root", "REDIS_RETRIES=7", "REDIS_TLS_URL=rediss://:p@h", "REDIS_ACCESS_TOKEN=t", "REDISCLI_AUTH=p", "REDIS_CACHE_URL=redis://cache"}},
		{"one for each task", nil, append([]string{"--mode", "exec"}, worker...), []string{"PATH=/bin", "HOME=/root", "REDIS_HOST=h", "REDIS_RETRIES=7", "REDIS_TLS_SERVER_NAME="}},
		{
			"allowed by name",
			[]string{"SIDECAR_CHILD_ENV=REDIS_URL, SIDECAR_KILL_GRACE,NONE"},
			worker,
			[]string{"PATH=/bin", "HOME=/root", "REDIS_URL=redis://u:p@h", "REDIS_HOST=h", "REDIS_RETRIES=7", "REDIS_TLS_SERVER_NAME=", "SIDECAR_KILL_GRACE=1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustLoad(t, slices.Concat(env, c.add), c.args...)
			if !reflect.DeepEqual(s.App.Worker.Env, c.want) {
				t.Errorf("got %q\nwant %q", s.App.Worker.Env, c.want)
			}
		})
	}
}

// Every variable that says where Redis is, is replaced by what the sidecar knows.
func TestRedisNamesAreComplete(t *testing.T) {
	for _, v := range newVariables().all {
		if strings.HasPrefix(v.env, "REDIS_") != slices.Contains(redisNames, v.env) {
			t.Errorf("%s: among the names that the sidecar sets for workers: %v", v.env, slices.Contains(redisNames, v.env))
		}
	}
}

func TestWithheld(t *testing.T) {
	env := []string{
		"PATH=/bin", "REDIS_HOST=h", "REDIS_PASSWORD=p", "REDIS_CACHE_URL=c", "SIDECAR_KILL_GRACE=1", "NOTIFY_SOCKET=/run/n",
		"OTEL_EXPORTER_OTLP_HEADERS=a=b",
	}
	always := []string{"NOTIFY_SOCKET", "OTEL_EXPORTER_OTLP_HEADERS"}
	for _, c := range []struct {
		name string
		add  string
		want []string
	}{
		{"any worker", "A=", append(always, "REDIS_CACHE_URL", "REDIS_PASSWORD", "SIDECAR_KILL_GRACE")},
		{"Graflow's", "SIDECAR_GRAFLOW=true", append(always, "SIDECAR_GRAFLOW", "SIDECAR_KILL_GRACE")},
		{"a supervised one", "SIDECAR_MODE=supervise", append(always, "SIDECAR_KILL_GRACE", "SIDECAR_MODE")},
		{"both", "SIDECAR_WORKERS=a=graflow\n*=./w", append(always, "REDIS_CACHE_URL", "REDIS_PASSWORD", "SIDECAR_KILL_GRACE", "SIDECAR_WORKERS")},
		{"allowed", "SIDECAR_CHILD_ENV=REDIS_CACHE_URL", append(always, "REDIS_PASSWORD", "SIDECAR_CHILD_ENV", "SIDECAR_KILL_GRACE")},
		{"elsewhere", "SIDECAR_WORKER_SOCKET=/run/s", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			setEnvironment(t, append(slices.Clone(env), c.add))
			l := NewLoader()
			if got := l.Withheld(); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
