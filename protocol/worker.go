package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"
)

// ErrOrphaned is returned by Serve when stdin ended, or stdout could not be
// written, while the sidecar had not said shutdown or tasks were still running:
// the sidecar is gone (P38). It is also the cause that the contexts of the
// running handlers are cancelled with.
var ErrOrphaned = errors.New("the sidecar is gone")

// ErrNoSidecar is returned by Serve when no sidecar was there to begin with:
// stdin is a terminal or a device, or ended before initialize.
var ErrNoSidecar = errors.New("no sidecar on stdin")

// orphanGrace is how long handlers have once the sidecar is gone: Serve has
// returned and the program can have ended within the second of P38.
const orphanGrace = 750 * time.Millisecond

// leaveGrace is how long a worker whose context has ended and that runs nothing
// goes on refusing tasks that were on their way to it already.
const leaveGrace = time.Second

// Handler does a task. What it returns becomes the task's value, as JSON; nil is
// none. An error makes it a failed task, or one that is delivered again later if
// it is wrapped by Retryable; a panic makes it a failed task with a stack.
//
// ctx ends at the task's deadline, when the sidecar cancels the task (the cause
// is CodeCancelled) and when the sidecar is gone (ErrOrphaned). As many handlers
// as WithConcurrency says run at the same time.
type Handler func(ctx context.Context, t *Task) (any, error)

// Option changes how Serve works.
type Option func(*options)

type options struct {
	r           io.Reader
	w           io.Writer
	concurrency int
	info        Peer
	max         int
	signals     <-chan os.Signal
	inputs      map[string][]string
}

// WithConcurrency sets how many tasks run at once; 1 unless set. The sidecar
// starts as many processes as it needs for its own number of tasks: several
// tasks in one process share its fate.
func WithConcurrency(n int) Option {
	return func(o *options) { o.concurrency = max(1, n) }
}

// WithInfo sets the name and version that the worker gives of itself. The
// default is what the running binary tells.
func WithInfo(name, version string) Option {
	return func(o *options) { o.info = Peer{Name: name, Version: version} }
}

// WithMaxMessageBytes sets the longest message that is sent or accepted, in
// bytes. The default is what the sidecar says; the smaller one of the two counts
// for messages to the sidecar. Below 4096 counts as 4096 (P4).
func WithMaxMessageBytes(n int) Option {
	return func(o *options) { o.max = max(MinMaxMessageBytes, n) }
}

// WithIO makes Serve speak over r and w instead of the process's stdin and
// stdout, which it then leaves alone, as it does signals: for tests. Serve
// closes r when it returns if r is an io.Closer, which is what ends a read.
func WithIO(r io.Reader, w io.Writer) Option {
	return func(o *options) { o.r, o.w = r, w }
}

// WithInputs asks for inputs to come with every task whose id fits a pattern, in
// which a * stands for any characters (P56): see Task.Input. What the workflow
// has for such a task (P57) comes with it, too, also where no names are given.
// It may be given several times.
func WithInputs(pattern string, names ...string) Option {
	return func(o *options) {
		if o.inputs == nil {
			o.inputs = map[string][]string{}
		}
		if o.inputs[pattern] == nil {
			o.inputs[pattern] = []string{} // never null
		}
		o.inputs[pattern] = append(o.inputs[pattern], names...)
	}
}

// withSignals stands in for the process's signals.
func withSignals(c <-chan os.Signal) Option {
	return func(o *options) { o.signals = c }
}

// Serve is a whole worker: it answers the sidecar on stdin and stdout and calls
// h for every task until the sidecar says shutdown, and then returns nil; a nil h
// runs the tasks that Register was given. Call it first thing in main: from then on, whatever else prints to stdout prints to
// stderr instead, and whatever reads stdin reads nothing (P14).
//
// SIGINT, SIGTERM and the end of ctx cut no task short (P40): the sidecar is
// asked to send nothing more, running tasks finish, unstarted ones go back to
// it. After a signal Serve then waits for the sidecar's word; after the end of
// ctx it returns the cause of that. Handlers get the values of ctx.
//
// When the sidecar is gone, Serve cancels the handlers' contexts and returns
// ErrOrphaned within a second, whether or not they have returned (P38). Started
// by hand, without a sidecar, it says so on stderr and returns ErrNoSidecar.
func Serve(ctx context.Context, h Handler, opts ...Option) error {
	o := options{concurrency: 1, info: ownInfo()}
	for _, opt := range opts {
		opt(&o)
	}
	if h == nil {
		var err error
		if h, err = registeredTasks(&o); err != nil {
			return err
		}
	}
	ours := o.r == nil || o.w == nil
	if ours {
		if byHand() {
			explain()
			return ErrNoSidecar
		}
		in, out, err := takeOver()
		if err != nil {
			return fmt.Errorf("take stdin and stdout over: %w", err)
		}
		defer out.Close()
		o.r, o.w = in, out
		signals, stop := watchSignals()
		defer stop()
		o.signals = signals
	}
	s := newServer(ctx, h, o)
	if ours {
		s.out.begin()
	}
	err := s.serve(ctx)
	if errors.Is(err, ErrNoSidecar) {
		explain()
	}
	return err
}

// byHand reports whether stdin is a terminal or a device such as /dev/null,
// from which no sidecar speaks.
func byHand() bool {
	info, err := os.Stdin.Stat()
	return err != nil || info.Mode()&os.ModeCharDevice != 0
}

func explain() {
	fmt.Fprintf(os.Stderr, "This is a worker of graflow-sidecar: it takes its tasks from a sidecar. Run it as: sidecar run -- %s\n", os.Args[0])
}

// ownInfo is what the build of this program says about it.
func ownInfo() Peer {
	p := Peer{Name: filepath.Base(os.Args[0]), Version: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		p.Version = info.Main.Version
	}
	return p
}

// Retryable wraps an error so that the task is not reported as failed but is
// delivered again after a delay (P24): for failures that time may mend. It
// returns nil for nil.
func Retryable(err error) error {
	if err == nil {
		return nil
	}
	return &retryableError{err}
}

type retryableError struct{ err error }

func (e *retryableError) Error() string { return e.err.Error() }
func (e *retryableError) Unwrap() error { return e.err }
