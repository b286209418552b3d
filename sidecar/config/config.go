package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/settingfile"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
)

// Config is everything a sidecar needs to know. Default gives every
// default; a zero value of a field that has one is refused by Validate.
type Config struct {
	// WorkerID is a label for people: containers often share one.
	WorkerID string
	Version  string
	Redis    Redis
	// KeyPrefix is Graflow's REDIS_KEY_PREFIX.
	KeyPrefix string
	// QueueKey is the key of the queue if that is not KeyPrefix:queue. A prefix has one queue.
	QueueKey string
	// Mode says what a worker is.
	Mode Mode
	// Slots is how many tasks run at once over all children; with ModeSupervise
	// it is only told to each of them.
	Slots int
	// Replicas is how many workers ModeSupervise keeps.
	Replicas int
	// PollInterval is between looks at the queue where Redis cannot block.
	PollInterval time.Duration
	// QueueSide is the end of the list that records are taken from.
	QueueSide QueueSide
	Worker    Worker
	// Kinds, if there are any, run the tasks in place of Worker, each those whose
	// ids fit its pattern. Slots means nothing then.
	Kinds []Kind
	// UnroutedTimeout is how long a task is kept that no kind of worker takes,
	// here or in another sidecar, before it becomes a dead letter.
	UnroutedTimeout time.Duration
	// ShutdownTimeout is the budget of a stop, counted from its signal.
	ShutdownTimeout time.Duration
	// StopRedisWait is how long a stop waits for a Redis that is gone, once the
	// running tasks have ended; 0 means not at all. ShutdownTimeout bounds it.
	StopRedisWait time.Duration
	// MaxAttempts is how many deliveries of a record may be lost to crashes.
	MaxAttempts int
	// TaskTimeout bounds one run of a task; 0 means no bound.
	TaskTimeout time.Duration
	Retry       Retry
	// MaxUnreportedBytes is how many bytes of outcomes may wait to be reported: nothing
	// is claimed above it. 0 means any number.
	MaxUnreportedBytes int64
	// ResultTTL is how long the result of a record without a session is kept in Redis; 0
	// means until it is deleted. Those with a session are Graflow's, and have no end.
	ResultTTL time.Duration
	// DeadLetterMax and DeadLetterMaxAge bound the dead letters of the prefix: the oldest
	// ones above the number, and those of the age, are deleted. 0 means no bound.
	DeadLetterMax    int
	DeadLetterMaxAge time.Duration
	// SpoolDir, if set, keeps outcomes on disk that Redis could not be told
	// before the end of a stop, for the next start to report.
	SpoolDir string
	// Traces, if set, says where the spans of the deliveries go. ModeSupervise has none:
	// the sidecar sees no task there.
	Traces *Traces
	// PushMetrics, if set, says where the metrics go that Prometheus would scrape.
	PushMetrics *Collector
	HTTP        HTTP
	// Log gets every line of the sidecar. Required. A line that waits for its
	// reader holds up what it is about: give it a writer that does not.
	Log *slog.Logger
	// LogLinesDropped, if set, is how many lines that writer has dropped so far.
	LogLinesDropped func() int64
}

// QueueSide names an end of the queue's list.
type QueueSide string

const (
	QueueLeft  QueueSide = "left"  // as Graflow's worker does: LPOP
	QueueRight QueueSide = "right" // first in, first out for a group's tasks
)

// ExecOutput says what the stdout of a program of ModeExec is.
type ExecOutput string

const (
	ExecText   ExecOutput = "text"   // UTF-8, and nothing else
	ExecBase64 ExecOutput = "base64" // any bytes; the result is them in base64
	ExecLatin1 ExecOutput = "latin1" // ISO 8859-1, of which UTF-8 is made
)

// Redis says where Redis is and how to speak to it.
type Redis struct {
	// Embedded starts a Redis that the sidecar owns, on EmbeddedPort or, if
	// that is 0, on any port that is free; nothing else here says then where
	// Redis is.
	Embedded     bool
	EmbeddedPort int
	// URL is redis://, rediss:// or unix://; it beats Host, Port and DB.
	URL            string
	Host           string
	Port           int
	DB             int
	Username       string
	Password       string
	PasswordFile   string   // read at every start of a connection pool
	Addrs          []string // of a Cluster, or of the sentinels
	SentinelMaster string
	// For the sentinels themselves; Username and Password are the master's.
	SentinelUsername string
	SentinelPassword string
	Cluster          bool

	TLS           bool
	TLSCAFile     string
	TLSCertFile   string
	TLSKeyFile    string
	TLSServerName string
	TLSInsecure   bool

	PoolSize            int
	MinIdleConns        int
	ConnMaxIdleTime     time.Duration
	HealthCheckInterval time.Duration // of idle connections, ours and a Graflow worker's
	PingInterval        time.Duration
	RetryBase           time.Duration // pause before a second try to reach Redis; doubles
	RetryMax            time.Duration // the longest such pause
	DialTimeout         time.Duration
	ReadTimeout         time.Duration
	WriteTimeout        time.Duration

	// For the clients in a Graflow worker, whose other settings are those above.
	WorkerPoolSize int // connections at most
	WorkerRetries  int // of a command on connection and timeout errors
}

// Worker says what runs the tasks.
type Worker struct {
	Command []string
	Name    string // for people; the command if empty
	// Socket, if its Path is set, has the workers run in other containers, by
	// what `sidecar connect` says there: Command is empty then, and Dir, Env and
	// Files mean nothing. With Graflow they reach Redis through the sidecar.
	Socket Socket
	// Concurrency is what the worker will declare, if that is known: then all
	// of its processes start at once.
	Concurrency int
	Dir         string
	// Env is the children's complete environment; what the sidecar itself gives
	// to a child is added to it.
	Env []string
	// Files are handed down as file descriptors 3, 4 …
	Files []*os.File
	// ForkServer, if set, is the command of a fork server that the children are
	// forked from, as pyworker.ForkServerCommand has it; Command stays what runs where
	// that does not work. It needs reaper.Begin, and Linux.
	ForkServer []string
	// Graflow gives the children Redis' coordinates: Graflow's engine speaks to
	// it for graphs and channels.
	Graflow bool
	// LogLevel is passed on to Graflow children by its Graflow name.
	LogLevel string

	StartTimeout      time.Duration
	StartRetries      int
	RestartBackoffMin time.Duration
	RestartBackoffMax time.Duration
	PingInterval      time.Duration
	PingTimeout       time.Duration
	WriteTimeout      time.Duration
	KillGrace         time.Duration
	MaxMessageBytes   int
	// ExecOutput is for ModeExec.
	ExecOutput ExecOutput

	// CrashLoopExit ends the sidecar with a CrashLoopError when its workers keep
	// dying: every slot's worker has ended five times in a row without answering
	// a task or living for a minute. Otherwise the sidecar is not ready (see
	// Status) until one does, and goes on trying.
	CrashLoopExit bool
	// After so many tasks, so long a time or with so much memory (in bytes, of
	// the worker's own process; Linux only) a worker is replaced, between tasks
	// and with its successor started first; 0 means never. Chance takes up to a
	// fifth off the first two, for each worker anew, so that they do not all go
	// together. No worker gets more tasks than that; age and memory are looked at
	// about once a second.
	MaxTasksPerChild int
	MaxChildAge      time.Duration
	MaxChildRSS      int64
	// MaxLent is the maximum number of extra slots, one for each task that only waits for
	// other tasks (a nested group's barrier). Workers are started for them. 0 means none.
	MaxLent int
}

// Retry says when a task is tried again whose failure is retryable.
type Retry struct {
	Base   time.Duration // before the second try; doubles with every further one
	Max    time.Duration
	Jitter float64 // up to this share of the pause is taken off, by chance
}

// Delay is the pause after the given attempt (from 1).
func (r Retry) Delay(attempt int) time.Duration {
	d := r.Base
	for i := 1; i < attempt && d < r.Max; i++ {
		d *= 2
	}
	d = min(d, r.Max)
	return d - time.Duration(rand.Float64()*r.Jitter*float64(d))
}

// Default returns the defaults: Graflow's own where Graflow's worker has
// them (graflow/worker/main.py), a WorkerID with the process's id, and
// slog.Default as the Log. Only the worker's command is left to fill in.
func Default() Config {
	return Config{
		WorkerID: defaultWorkerID(), Version: "dev", Log: slog.Default(),
		Redis: Redis{
			Host: "localhost", Port: 6379,
			PoolSize: 4, MinIdleConns: 1, ConnMaxIdleTime: 5 * time.Minute,
			HealthCheckInterval: 30 * time.Second, PingInterval: 5 * time.Second,
			RetryBase: 50 * time.Millisecond, RetryMax: 500 * time.Millisecond,
			DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
			WorkerPoolSize: 10, WorkerRetries: 5,
		},
		KeyPrefix: "graflow", Mode: ModeRPC, Slots: 4, Replicas: 1, PollInterval: 100 * time.Millisecond, QueueSide: QueueLeft,
		Worker: Worker{
			StartTimeout: 30 * time.Second, StartRetries: 3,
			RestartBackoffMin: 100 * time.Millisecond, RestartBackoffMax: 30 * time.Second,
			PingInterval: 15 * time.Second, PingTimeout: 30 * time.Second,
			WriteTimeout: 30 * time.Second, KillGrace: 5 * time.Second, MaxMessageBytes: 16 << 20,
			LogLevel: "INFO", MaxLent: 16, ExecOutput: ExecText, Socket: Socket{Mode: 0o660},
		},
		ShutdownTimeout: 25 * time.Second, StopRedisWait: 8 * time.Second, MaxAttempts: 3, MaxUnreportedBytes: 64 << 20, UnroutedTimeout: 20 * time.Second,
		ResultTTL: 24 * time.Hour, DeadLetterMax: 10_000, DeadLetterMaxAge: 180 * 24 * time.Hour,
		Retry: Retry{Base: time.Second, Max: time.Minute, Jitter: 0.5},
	}
}

// Error says what is wrong with a configuration.
type Error struct{ Err error }

func (e *Error) Error() string { return "configuration: " + e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Validate checks every field and returns a *Error that names all that
// are wrong.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Log != nil, "Log is missing")
	if len(c.Kinds) > 0 {
		c.validateKinds(check)
	} else {
		c.Worker.Socket.validate(c, check)
	}
	check(c.WorkerID != "", "WorkerID is empty")
	check(c.KeyPrefix != "", "KeyPrefix is empty")
	check(!strings.HasPrefix(c.QueueKey, c.KeyPrefix+":sidecar:"), "QueueKey is %q, and the keys %s:sidecar:… are the sidecar's own", c.QueueKey, c.KeyPrefix)
	check(c.QueueKey == "" || c.QueueKey == c.KeyPrefix+":queue" || !c.hasGraflow(), "QueueKey (SIDECAR_QUEUE_KEY) is %q, and Graflow puts its tasks into %s:queue, whatever it is: leave it out with --graflow, and name the prefix with REDIS_KEY_PREFIX", c.QueueKey, c.KeyPrefix)
	check(c.Slots >= 1 && c.Slots <= 4096, "Slots is %d, and must be 1 to 4096", c.Slots)
	check(c.Mode == ModeRPC || c.Mode == ModeExec || c.Mode == ModeSupervise, "Mode is %q, and must be rpc, exec or supervise", c.Mode)
	check(c.Mode == ModeRPC || !c.Worker.Graflow, "Worker.Graflow is for ModeRPC: the adapter speaks the worker protocol")
	check(c.Replicas >= 1 && c.Replicas <= 1024, "Replicas is %d, and must be 1 to 1024", c.Replicas)
	check(c.QueueSide == QueueLeft || c.QueueSide == QueueRight, "QueueSide is %q, and must be left or right", c.QueueSide)
	check(c.MaxAttempts >= 1, "MaxAttempts is %d, and must be at least 1", c.MaxAttempts)
	check(c.StopRedisWait >= 0, "StopRedisWait is %v, and must not be negative", c.StopRedisWait)
	check(c.MaxUnreportedBytes >= 0, "MaxUnreportedBytes is %d, and must not be negative", c.MaxUnreportedBytes)
	check(c.ResultTTL >= 0, "ResultTTL is %v, and must not be negative", c.ResultTTL)
	check(c.DeadLetterMax >= 0, "DeadLetterMax is %d, and must not be negative", c.DeadLetterMax)
	check(c.DeadLetterMaxAge >= 0, "DeadLetterMaxAge is %v, and must not be negative", c.DeadLetterMaxAge)
	check(c.TaskTimeout >= 0, "TaskTimeout is %v, and must not be negative", c.TaskTimeout)
	for name, d := range map[string]time.Duration{
		"PollInterval": c.PollInterval, "ShutdownTimeout": c.ShutdownTimeout,
		"Redis.HealthCheckInterval": c.Redis.HealthCheckInterval, "Redis.RetryBase": c.Redis.RetryBase,
		"Redis.PingInterval": c.Redis.PingInterval, "Redis.DialTimeout": c.Redis.DialTimeout,
		"Redis.ReadTimeout": c.Redis.ReadTimeout, "Redis.WriteTimeout": c.Redis.WriteTimeout,
		"Worker.StartTimeout": c.Worker.StartTimeout, "Worker.PingInterval": c.Worker.PingInterval,
		"Worker.PingTimeout": c.Worker.PingTimeout, "Worker.WriteTimeout": c.Worker.WriteTimeout,
		"Worker.KillGrace": c.Worker.KillGrace, "Worker.RestartBackoffMin": c.Worker.RestartBackoffMin,
		"Retry.Base": c.Retry.Base, "Retry.Max": c.Retry.Max,
	} {
		check(d > 0, "%s is %v, and must be more than 0", name, d)
	}
	check(c.Worker.StartRetries >= 0, "Worker.StartRetries is %d, and must not be negative", c.Worker.StartRetries)
	check(c.Worker.RestartBackoffMax >= c.Worker.RestartBackoffMin, "Worker.RestartBackoffMax is less than RestartBackoffMin")
	check(c.Worker.MaxMessageBytes >= 4096, "Worker.MaxMessageBytes is %d, and must be at least 4096", c.Worker.MaxMessageBytes)
	check(slices.Contains([]ExecOutput{ExecText, ExecBase64, ExecLatin1}, c.Worker.ExecOutput), "Worker.ExecOutput is %q, and must be text, base64 or latin1", c.Worker.ExecOutput)
	check(c.Worker.MaxTasksPerChild >= 0, "Worker.MaxTasksPerChild is %d, and must not be negative", c.Worker.MaxTasksPerChild)
	check(c.Worker.MaxChildAge >= 0, "Worker.MaxChildAge is %v, and must not be negative", c.Worker.MaxChildAge)
	check(c.Worker.MaxChildRSS >= 0, "Worker.MaxChildRSS is %d, and must not be negative", c.Worker.MaxChildRSS)
	check(c.Worker.MaxChildRSS <= 0 || runtime.GOOS == "linux", "Worker.MaxChildRSS (SIDECAR_MAX_CHILD_RSS) needs Linux: this system does not tell a process' memory")
	check(c.Worker.MaxLent >= 0 && c.Worker.MaxLent <= 4096, "Worker.MaxLent is %d, and must be 0 to 4096", c.Worker.MaxLent)
	check(c.Retry.Jitter >= 0 && c.Retry.Jitter <= 1, "Retry.Jitter is %v, and must be 0 to 1", c.Retry.Jitter)
	check(c.Redis.RetryMax >= c.Redis.RetryBase, "Redis.RetryMax is less than RetryBase")
	check(c.Redis.WorkerPoolSize >= 1, "Redis.WorkerPoolSize is %d, and must be at least 1", c.Redis.WorkerPoolSize)
	check(c.Redis.WorkerRetries >= 0, "Redis.WorkerRetries is %d, and must not be negative", c.Redis.WorkerRetries)
	check(c.Redis.PoolSize >= 1, "Redis.PoolSize is %d, and must be at least 1", c.Redis.PoolSize)
	if len(errs) > 0 {
		return &Error{Err: errors.Join(errs...)}
	}
	return nil
}

// Queue is the key of the queue.
func (c *Config) Queue() string { return cmp.Or(c.QueueKey, c.KeyPrefix+":queue") }

// hasGraflow reports whether Graflow's workers run the tasks, or some of them.
func (c *Config) hasGraflow() bool {
	return c.Worker.Graflow || slices.ContainsFunc(c.Kinds, func(k Kind) bool { return k.Worker.Graflow })
}

// Mode says what a worker is; docs/modes.md has the contracts.
type Mode string

const (
	// ModeRPC: long-lived processes that speak the worker protocol.
	ModeRPC Mode = "rpc"
	// ModeExec: any executable, one process for each task.
	ModeExec Mode = "exec"
	// ModeSupervise: programs that take their tasks from Redis themselves.
	ModeSupervise Mode = "supervise"
)

// Kind is one of several kinds of worker; docs/routing.md has the rules.
type Kind struct {
	// Pattern says which tasks it runs: those whose id fits it, and the pattern
	// of no kind before it.
	Pattern string
	// Mode is ModeRPC or ModeExec.
	Mode Mode
	// Slots is how many of its tasks run at once.
	Slots int
	// Worker is complete, but for Redis' coordinates of a Graflow worker.
	Worker Worker
}

// maxKinds bounds what is sent with every claim.
const maxKinds = 64

// validateKinds complains about several kinds of worker that do not work.
func (c *Config) validateKinds(check func(ok bool, format string, args ...any)) {
	check(c.Mode == ModeRPC, "Mode is %q, and must be rpc with Kinds, which have modes of their own", c.Mode)
	check(len(c.Worker.Command) == 0 && !c.Worker.Graflow, "Worker has a command, and Kinds have others")
	check(c.Worker.Socket.Path == "", "Worker.Socket.Path is set, and goes with one kind of worker only")
	check(len(c.Kinds) <= maxKinds, "there are %d Kinds, and may be %d", len(c.Kinds), maxKinds)
	check(c.UnroutedTimeout > 0, "UnroutedTimeout is %v, and must be more than 0", c.UnroutedTimeout)
	if _, err := route.ParseAll(c.Patterns()); err != nil {
		check(false, "%w", err)
	}
	for _, k := range c.Kinds {
		check(len(k.Worker.Command) > 0, "the kind %q has no worker command", k.Pattern)
		check(k.Mode == ModeRPC || k.Mode == ModeExec, "the mode of the kind %q is %q, and must be rpc or exec", k.Pattern, k.Mode)
		check(k.Mode == ModeRPC || !k.Worker.Graflow, "the kind %q is Graflow's, which is for ModeRPC", k.Pattern)
		check(k.Slots >= 1 && k.Slots <= 4096, "the kind %q has %d slots, and must have 1 to 4096", k.Pattern, k.Slots)
	}
}

// TotalSlots is how many tasks run at once, over all kinds of worker.
func (c *Config) TotalSlots() int {
	if len(c.Kinds) == 0 {
		return c.Slots
	}
	n := 0
	for _, k := range c.Kinds {
		n += k.Slots
	}
	return n
}

// Program is the worker's command without its arguments, which may hold secrets.
func (c *Config) Program() string {
	of := func(w Worker) string {
		switch {
		case w.Name != "":
			return w.Name
		case len(w.Command) == 0:
			return ""
		}
		return filepath.Base(w.Command[0])
	}
	if len(c.Kinds) == 0 {
		return of(c.Worker)
	}
	list := make([]string, len(c.Kinds))
	for i, k := range c.Kinds {
		list[i] = k.Pattern + "=" + of(k.Worker)
	}
	return strings.Join(list, " ")
}

// Patterns are those of the kinds.
func (c *Config) Patterns() []string {
	list := make([]string, len(c.Kinds))
	for i, k := range c.Kinds {
		list[i] = k.Pattern
	}
	return list
}

// Socket says where workers of other containers connect to; docs/socket.md
// has what it is for.
type Socket struct {
	// Path is that of a Unix socket that the sidecar makes; none if empty.
	Path string
	Mode os.FileMode
}

// validate complains about what does not go together.
func (s Socket) validate(c *Config, check func(ok bool, format string, args ...any)) {
	if s.Path == "" {
		check(len(c.Worker.Command) > 0, "no worker command")
		return
	}
	check(len(c.Worker.Command) == 0, "Worker.Command and Worker.Socket exclude each other: the command is that of the worker's container")
	check(c.Mode == ModeRPC, "Worker.Socket (SIDECAR_WORKER_SOCKET) goes with mode rpc only: the others start processes of their own")
	check(s.Mode&^0o770 == 0 && s.Mode&0o600 == 0o600, "Worker.Socket.Mode is %04o, and must be 0600 to 0770: every user that can reach the socket gets tasks", s.Mode)
	check(c.Worker.MaxChildRSS == 0, "Worker.MaxChildRSS (SIDECAR_MAX_CHILD_RSS) does not go with Worker.Socket: the memory of a process in another container cannot be seen; bound that container's")
	check(len(c.Worker.ForkServer) == 0, "Worker.ForkServer does not go with Worker.Socket")
}

// HTTP says where the sidecar answers over HTTP, and what it takes to do
// something there.
type HTTP struct {
	// Addr is host:port; port 0 takes any that is free. Empty means nowhere.
	Addr string
	// Hosts are the names that the address answers to besides its own; on one
	// that is not loopback any name will do if there are none.
	Hosts []string
	// AdminToken allows actions, and everything to be seen on an address that is
	// not loopback. It is read from AdminTokenFile at the start, if that is set.
	AdminToken     string
	AdminTokenFile string
}

func (c HTTP) ReadToken() (string, error) {
	if c.AdminTokenFile == "" {
		return c.AdminToken, nil
	}
	b, err := settingfile.Read(c.AdminTokenFile)
	if err != nil {
		return "", &Error{Err: fmt.Errorf("SIDECAR_ADMIN_TOKEN_FILE cannot be read: %w", err)}
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", &Error{Err: errors.New("SIDECAR_ADMIN_TOKEN_FILE is empty: put the token in it, or leave the variable out for a page that only shows")}
	}
	return token, nil
}
