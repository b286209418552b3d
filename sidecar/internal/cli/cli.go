// Package cli is what people say and ask from a terminal: the commands beside
// sidecar run. All of them speak to Redis and to no sidecar, so that they work
// from wherever Redis can be reached.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// Exit statuses beside those of the command line and the configuration; after
// sysexits.h, but for the first.
const (
	statusNo          = 1   // a negative finding: not found, refused, failed
	statusRefused     = 69  // Redis refuses us
	statusUnreachable = 75  // Redis cannot be reached, or time is up: try again later
	statusInterrupted = 130 // by Ctrl-C, as a shell has it
)

// StatusError ends the program with a status of its own.
type StatusError struct {
	Status int
	Err    error // nil where everything has been said
}

func (e *StatusError) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *StatusError) Unwrap() error { return e.Err }

// no is a negative finding.
func no(format string, args ...any) error {
	return &StatusError{statusNo, fmt.Errorf(format, args...)}
}

// wrongUse is an error of the command line.
func wrongUse(format string, args ...any) error {
	return &config.UsageError{Err: fmt.Errorf(format, args...)}
}

// Options are what the commands cannot know.
type Options struct {
	Version string
	// TestWorker says what is wrong with a worker, and how many checks it passed.
	TestWorker func(ctx context.Context, command []string) (passed int, failed []string, err error)
}

// Commands are the commands of this package.
func Commands(o Options) []*cobra.Command {
	return []*cobra.Command{
		statusCommand(), queueCommand(), tasksCommand(), deadCommand(), pauseCommand(), resumeCommand(),
		drainCommand(), childrenCommand(), enqueueCommand(), doctorCommand(o), configCommand(), explainCommand(),
	}
}

// callTimeout bounds the talk with Redis of one command that waits for nothing.
const callTimeout = 15 * time.Second

// session is one command's view of the world.
type session struct {
	st     *redis.Store
	cfg    config.Config
	out    *printer
	errOut io.Writer
	in     *os.File
	by     string
}

// command completes c into one that has a session with Redis.
func command(c *cobra.Command, run func(ctx context.Context, s *session, args []string) error) *cobra.Command {
	loader := config.NewLoader()
	loader.AddClientFlags(c.Flags())
	format := outputFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		s, err := open(c, loader, *format)
		if err != nil {
			return err
		}
		defer func() { _ = s.st.Close() }()
		ctx, stop := signal.NotifyContext(c.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return s.explain(run(ctx, s, args))
	}
	return c
}

func open(c *cobra.Command, loader *config.Loader, format string) (*session, error) {
	out, err := newPrinter(c.OutOrStdout(), format)
	if err != nil {
		return nil, err
	}
	cfg, err := loader.LoadClient()
	if err != nil {
		return nil, err
	}
	redis.SetLogger(nil) // what go-redis says its callers get as errors too
	st, err := openStore(cfg)
	if err != nil {
		return nil, err
	}
	in, _ := c.InOrStdin().(*os.File)
	return &session{st: st, cfg: cfg, out: out, errOut: c.ErrOrStderr(), in: in, by: whoami()}, nil
}

// openStore makes a client of the Redis that the configuration names; nothing else of the
// configuration is used. It does not connect.
func openStore(cfg config.Config) (*redis.Store, error) {
	o, err := redis.OptionsOf(cfg.Redis)
	if err != nil {
		return nil, err
	}
	o.PoolSize, o.MinIdleConns, o.ClientName = 4, 0, "graflow-sidecar-command"
	return redis.Open(&cfg, o)
}

// explain gives an error of Redis one line that says what to do, and its status.
func (s *session) explain(err error) error {
	if known := new(StatusError); err == nil || errors.As(err, &known) {
		return err
	}
	if usage := new(config.UsageError); errors.As(err, &usage) {
		return err
	}
	where := s.cfg.Redis.Address()
	if _, ok := errors.AsType[*redis.FormatError](err); ok {
		return &StatusError{statusRefused, fmt.Errorf("redis at %s refuses this: %w", where, err)}
	}
	ctx, cancel := bounded(context.Background()) // that of the command may be over
	defer cancel()
	if wrong, ok := errors.AsType[*redis.WrongTypeError](s.st.NameWrongType(ctx, err, "")); ok {
		return &StatusError{statusRefused, fmt.Errorf("redis at %s refuses this: %w", where, wrong)}
	}
	switch redis.Classify(err) {
	case redis.ClassFatal:
		return &StatusError{statusRefused, fmt.Errorf("redis at %s refuses this: %w (check the credentials, the permissions and the key prefix)", where, err)}
	case redis.ClassRejected:
		return &StatusError{statusNo, err}
	case redis.ClassCanceled:
		return &StatusError{statusInterrupted, errors.New("interrupted")}
	default:
		if redis.Answered(err) {
			return &StatusError{statusUnreachable, fmt.Errorf("redis at %s cannot do this now: %w", where, err)}
		}
		return &StatusError{statusUnreachable, fmt.Errorf("redis at %s cannot be reached: %w (check REDIS_URL or --redis-url)", where, err)}
	}
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callTimeout)
}

// whoami names the user of a command, for the other side's log.
func whoami() string {
	host, _ := os.Hostname()
	if u, err := user.Current(); err == nil {
		return u.Username + "@" + host
	}
	return host
}
