package protocol

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// server is one worker on one connection. Three kinds of goroutine share it: the
// reader (read), up to concurrency runners (run), and the writer inside out;
// serve waits for events and decides when it is over.
type server struct {
	handler Handler
	opts    options
	in      *LineReader
	out     *outbox

	// base is the parent of every task's context; giveUp ends it.
	base   context.Context
	giveUp context.CancelCauseFunc

	// idle is closed when the worker is stopping and has answered everything.
	idle chan struct{}

	requests pendingRequests

	// arrived are the tasks that the reader has read and not handed over yet.
	arrived []*job

	mu    sync.Mutex
	work  sync.Cond // a runner was called, or closed is set
	state state     // only update and next touch it
}

// state is everything that changes. The predicates beneath say what it means.
type state struct {
	initialized bool
	draining    bool // said $/draining: unstarted tasks are refused
	stopping    bool // leave once everything is answered
	left        bool // idle is closed
	closed      bool // Serve has returned, or is about to
	jobs        map[string]*job
	queue       []*job // unstarted, in the order they came
	running     int    // runners that are not parked
	parked      int    // runners that wait in next
	calls       int    // of these, those that were called and have not come yet
	called      bool   // a runner is on its way to the queue
}

// job is a task/run that has not been answered.
type job struct {
	id       string
	task     Task
	started  bool
	canceled atomic.Bool
	ctx      taskContext
}

func (st *state) refusing() bool { return st.draining || st.stopping }
func (st *state) over() bool     { return st.stopping && len(st.jobs) == 0 }

func newServer(ctx context.Context, h Handler, o options) *server {
	limit := o.max
	if limit == 0 {
		limit = DefaultMaxMessageBytes
	}
	s := &server{
		handler:  h,
		opts:     o,
		in:       NewLineReader(o.r, limit),
		out:      newOutbox(o.w, limit),
		idle:     make(chan struct{}),
		requests: pendingRequests{open: make(map[int64]chan Message)},
		state:    state{jobs: make(map[string]*job)},
	}
	s.base, s.giveUp = context.WithCancelCause(context.WithoutCancel(ctx))
	s.work.L = &s.mu
	return s
}

// update is the only way to change the state.
func (s *server) update(change func(st *state)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
	s.leaveLocked()
}

// leaveLocked says that it is over, if it is and has not been said.
func (s *server) leaveLocked() {
	if s.state.over() && !s.state.left {
		s.state.left = true
		close(s.idle)
	}
}

// serve runs the worker until it is over, whichever way.
func (s *server) serve(ctx context.Context) error {
	defer s.giveUp(context.Canceled)
	defer s.dismiss()
	go s.out.run()
	ended := make(chan error, 1)
	go func() { ended <- s.read() }()
	if c, ok := s.opts.r.(io.Closer); ok {
		defer c.Close()
	}

	var (
		result  error
		written = s.out.done
		idle    = s.idle
		soft    = ctx.Done()
		leave   <-chan time.Time
		giveUp  <-chan time.Time
	)
	// gone is the rule P38: give the tasks up, and do not wait for long.
	gone := func(err error) {
		if idle != nil {
			result = err
		}
		s.giveUp(err)
		s.stop()
		if giveUp == nil {
			giveUp = time.After(orphanGrace) //nolint:forbidigo // once in a worker's life
		}
	}
	for {
		select {
		case <-s.opts.signals:
			s.drain()
		case <-soft:
			soft = nil
			s.drain()
			result = context.Cause(ctx)
			leave = time.After(leaveGrace) //nolint:forbidigo // once in a worker's life
		case <-leave:
			s.stop()
		case err := <-ended:
			ended = nil
			gone(s.orphaned(err, result))
		case <-idle:
			idle = nil
			s.out.close()
		case <-written:
			written = nil
			if idle == nil {
				return result
			}
			// Only a broken stdout ends the writer before everything is answered.
			gone(fmt.Errorf("%w: stdout is closed", ErrOrphaned))
		case <-giveUp:
			return result
		}
		if idle == nil && written == nil {
			return result
		}
	}
}

// orphaned says what the end of stdin means. For a worker that has said
// $/draining and has nothing left to answer it is as good as a shutdown: then
// result stands.
func (s *server) orphaned(err, result error) error {
	var initialized, drained bool
	s.update(func(st *state) {
		initialized = st.initialized
		drained = st.draining && len(st.jobs) == 0
	})
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrOrphaned, err)
	case !initialized:
		return ErrNoSidecar
	case drained:
		return result
	default:
		return fmt.Errorf("%w: stdin ended", ErrOrphaned)
	}
}

// drain tells the sidecar to send nothing more, and hands back what has not
// started (P39).
func (s *server) drain() {
	first := false
	var unstarted []*job
	s.update(func(st *state) {
		first = !st.draining && !st.stopping
		st.draining = true
		unstarted = st.takeQueue()
	})
	if first {
		s.out.put(func(dst []byte) []byte { return AppendNotification(dst, MethodDraining, nil) })
	}
	s.refuse(unstarted)
}

// stop makes the worker leave once everything that runs is answered (P36).
func (s *server) stop() {
	var unstarted []*job
	s.update(func(st *state) {
		st.stopping = true
		unstarted = st.takeQueue()
	})
	s.refuse(unstarted)
}

// takeQueue removes the unstarted tasks from the queue; they remain jobs until
// they are answered.
func (st *state) takeQueue() []*job {
	unstarted := st.queue
	st.queue = nil
	return unstarted
}

func (s *server) refuse(unstarted []*job) {
	for _, j := range unstarted {
		s.sendError([]byte(j.id), Errorf(CodeNotStarted, "the worker is stopping and had not started this task"))
		s.answered(j)
	}
}

// answered forgets a job whose answer is on its way: only then, so that the
// worker does not leave between the two.
func (s *server) answered(j *job) {
	s.update(func(st *state) { delete(st.jobs, j.id) })
}

// sendError answers with an error. Its message is cut: it may quote what came
// in, and must fit whatever the limit is.
func (s *server) sendError(id []byte, e *Error) {
	e.Message = cut(e.Message, maxMessageKept)
	s.out.put(func(dst []byte) []byte { return AppendError(dst, id, e) })
}

// notify sends a notification; one over the limit, or that would be no message
// (json.Marshal lets some raw JSON pass that is none), is not worth more than a
// word on stderr.
func (s *server) notify(method string, params any) {
	raw, err := json.Marshal(params)
	if err == nil {
		err = CheckJSON(raw)
	}
	if err == nil && s.out.put(func(dst []byte) []byte { return AppendNotification(dst, method, raw) }) {
		return
	}
	fmt.Fprintf(os.Stderr, "a %s message could not be sent: %d bytes, %v\n", method, len(raw), err)
}

// warn logs a fault of the sidecar's messages.
func (s *server) warn(format string, args ...any) {
	s.notify(MethodLog, LogParams{Level: "warn", Message: fmt.Sprintf(format, args...)})
}
