package config

import (
	"cmp"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

const day = 24 * time.Hour

// settings interprets every variable over the defaults.
func (vs *variables) settings(in *interpreter) Settings {
	s := Settings{
		App: Default(), LogLevel: slog.LevelInfo, LogFormat: LogAuto, Python: "python3",
	}
	c, d, o := &s.App, &vs.dropIn, &vs.own

	in.label(&d.WorkerID, &c.WorkerID)
	in.integer(&d.MaxConcurrentTasks, &c.Slots, 1, 4096)
	in.pollInterval(&d.PollInterval, &c.PollInterval)
	in.label(&d.RedisKeyPrefix, &c.KeyPrefix)
	in.logLevel(&d.LogLevel, &s)
	vs.redis(in, &c.Redis)

	choice(in, &o.Mode, &c.Mode, ModeRPC, ModeExec, ModeSupervise)
	in.integer(&o.Replicas, &c.Replicas, 1, 1024)
	in.boolean(&o.Graflow, &c.Worker.Graflow)
	vs.kinds(in, &s)
	in.free(&o.Python, &s.Python, "a path or a name on PATH")
	in.socket(&o.Socket, &c.Worker.Socket.Path)
	in.fileMode(&o.SocketMode, &c.Worker.Socket.Mode)
	in.prefork(&o.Prefork, &s, &o.Graflow)
	in.free(&o.WorkerDir, &c.Worker.Dir, "a folder")
	in.names(&o.ChildEnv)
	vs.redisConflicts(in, &c.Redis, len(s.Adapter()) > 0)
	vs.modeConflicts(in, c.Mode, c.Worker.Graflow)
	vs.kindConflicts(in, c)
	vs.socketConflicts(in, c.Mode)

	w := &c.Worker
	in.duration(&o.StartTimeout, &w.StartTimeout, 100*time.Millisecond, time.Hour)
	in.integer(&o.StartRetries, &w.StartRetries, 0, 1000)
	in.duration(&o.RestartBackoffMin, &w.RestartBackoffMin, time.Millisecond, time.Hour)
	in.duration(&o.RestartBackoffMax, &w.RestartBackoffMax, time.Millisecond, time.Hour)
	in.duration(&o.PingInterval, &w.PingInterval, 100*time.Millisecond, time.Hour)
	in.duration(&o.PingTimeout, &w.PingTimeout, 100*time.Millisecond, time.Hour)
	in.duration(&o.WriteTimeout, &w.WriteTimeout, 100*time.Millisecond, time.Hour)
	in.duration(&o.KillGrace, &w.KillGrace, 10*time.Millisecond, time.Hour)
	in.integer(&o.MaxMessageBytes, &w.MaxMessageBytes, 4096, 1<<30)
	choice(in, &o.ExecOutput, &w.ExecOutput, ExecText, ExecBase64, ExecLatin1)
	in.boolean(&o.CrashLoopExit, &w.CrashLoopExit)
	in.integer(&o.MaxTasksPerChild, &w.MaxTasksPerChild, 0, math.MaxInt32)
	in.duration(&o.MaxChildAge, &w.MaxChildAge, 0, 365*day)
	in.size(&o.MaxChildRSS, &w.MaxChildRSS, 1<<20)
	in.integer(&o.MaxLent, &w.MaxLent, 0, 4096)
	in.ordered(&o.RestartBackoffMin, w.RestartBackoffMin, &o.RestartBackoffMax, w.RestartBackoffMax)

	in.free(&o.QueueKey, &c.QueueKey, "the key of a list")
	choice(in, &o.QueueSide, &c.QueueSide, QueueLeft, QueueRight)
	in.duration(&o.TaskTimeout, &c.TaskTimeout, 0, 365*day)
	in.duration(&o.UnroutedTimeout, &c.UnroutedTimeout, time.Second, day)
	in.integer(&o.MaxAttempts, &c.MaxAttempts, 1, 1000)
	in.size(&o.MaxUnreported, &c.MaxUnreportedBytes, 1<<20)
	in.duration(&o.ResultTTL, &c.ResultTTL, 0, 3650*day)
	in.integer(&o.DeadLetterMax, &c.DeadLetterMax, 0, math.MaxInt32)
	in.duration(&o.DeadLetterMaxAge, &c.DeadLetterMaxAge, 0, 3650*day)
	in.duration(&o.RetryBase, &c.Retry.Base, time.Millisecond, day)
	in.duration(&o.RetryMax, &c.Retry.Max, time.Millisecond, day)
	in.ordered(&o.RetryBase, c.Retry.Base, &o.RetryMax, c.Retry.Max)
	in.share(&o.RetryJitter, &c.Retry.Jitter)
	in.duration(&o.ShutdownTimeout, &c.ShutdownTimeout, time.Second, day)
	in.duration(&o.StopRedisWait, &c.StopRedisWait, 0, day)
	in.free(&o.SpoolDir, &c.SpoolDir, "a folder")
	c.HTTP.Addr = defaultHTTPAddr
	in.address(&o.HTTPAddr, &c.HTTP.Addr)
	in.loopback(&o.DebugAddr, &s.DebugAddr)
	choice(in, &o.LogFormat, &s.LogFormat, LogAuto, LogJSON, LogText)

	vs.http(in, &c.HTTP)

	r := &c.Redis
	in.integer(&o.PoolSize, &r.PoolSize, 1, 10000)
	in.integer(&o.MinIdleConns, &r.MinIdleConns, 0, 10000)
	in.duration(&o.ConnMaxIdleTime, &r.ConnMaxIdleTime, time.Second, day)
	in.duration(&o.HealthCheck, &r.HealthCheckInterval, time.Second, day)
	in.duration(&o.RedisPing, &r.PingInterval, 100*time.Millisecond, time.Hour)
	in.duration(&o.RedisRetryBase, &r.RetryBase, time.Millisecond, time.Minute)
	in.duration(&o.RedisRetryMax, &r.RetryMax, time.Millisecond, time.Minute)
	in.ordered(&o.RedisRetryBase, r.RetryBase, &o.RedisRetryMax, r.RetryMax)
	in.duration(&o.DialTimeout, &r.DialTimeout, 10*time.Millisecond, time.Hour)
	in.duration(&o.ReadTimeout, &r.ReadTimeout, 10*time.Millisecond, time.Hour)
	in.duration(&o.RedisWrite, &r.WriteTimeout, 10*time.Millisecond, time.Hour)
	in.integer(&o.WorkerPool, &r.WorkerPoolSize, 1, 10000)
	in.integer(&o.WorkerRetries, &r.WorkerRetries, 0, 1000)
	return s
}

// describe fills in what every variable accepts and its default, without
// reading anything.
func (vs *variables) describe() { vs.settings(&interpreter{}) }

// leastPoll is the least pause between two looks at the queue. Graflow's worker
// takes 0, and then looks all the time.
const leastPoll = time.Millisecond

func (in *interpreter) pollInterval(v *value, dst *time.Duration) {
	in.duration(v, dst, 0, 365*day)
	*dst = max(*dst, leastPoll)
}

// graflowLevels are the names that Graflow's worker takes in LOG_LEVEL: those of
// Python's logging. NOTSET lets everything through.
var graflowLevels = map[string]slog.Level{
	"NOTSET": slog.LevelDebug, "DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo,
	"WARNING": slog.LevelWarn, "WARN": slog.LevelWarn, "ERROR": slog.LevelError,
	"CRITICAL": LevelCritical, "FATAL": LevelCritical,
}

// pythonLevels are the names that Python's logging has two of.
var pythonLevels = map[string]string{"WARN": "WARNING", "FATAL": "CRITICAL"}

func (in *interpreter) logLevel(v *value, s *Settings) {
	name := "INFO"
	choice(in, v, &name, "DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL", "FATAL", "NOTSET")
	s.LogLevel = graflowLevels[name]
	s.App.Worker.LogLevel = cmp.Or(pythonLevels[name], name)
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (in *interpreter) names(v *value) {
	var text string
	set(in, v, &text, "names of variables, separated by commas", "", func(s string) (string, bool) {
		for _, name := range splitList(s) {
			if !variableName.MatchString(name) {
				return "", false
			}
		}
		return s, true
	})
}

// ordered complains where a lower bound was put above an upper one.
func (in *interpreter) ordered(low *value, lowest time.Duration, high *value, highest time.Duration) {
	if lowest > highest {
		culprit := high
		if !high.given() {
			culprit = low
		}
		in.complain(culprit, "%s is %s, and must not be more than %s, which is %s",
			low.name(), short(lowest), high.name(), short(highest))
	}
}

// maxDB bounds a database number; how many there are is the server's setting.
const maxDB = math.MaxInt32

// host takes a name, an address or the path of a socket. An IPv6 address may stand in
// brackets, as it does in a URL.
func (in *interpreter) host(v *value, dst *string) {
	if host, port, err := net.SplitHostPort(v.text()); err == nil && host != "" && port != "" {
		in.complain(v, "%s is %s: it takes the host alone, and REDIS_PORT the port (or give both in REDIS_URL)", v.name(), shorten(v.text()))
		return
	}
	set(in, v, dst, "a host name, an address or the path of a Unix socket", *dst, func(s string) (string, bool) {
		if strings.HasPrefix(s, "/") {
			return s, true
		}
		if bare, ok := strings.CutPrefix(s, "["); ok {
			bare, ok = strings.CutSuffix(bare, "]")
			addr, err := netip.ParseAddr(bare)
			return bare, ok && err == nil && addr.Is6()
		}
		return s, !strings.ContainsAny(s, "/@ \t\r\n?#") // a URL, most of the time
	})
}
