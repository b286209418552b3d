package supervise

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// replica is one of the configured replicas, and its processes one after another. Its
// goroutine, keep, owns it; fields that other goroutines read are guarded by
// Supervisor.mu.
type replica struct {
	*Supervisor
	n        int
	workerID string
	replace  chan chan<- error // requests for a new process; each gets the result
	came     chan<- error      // gets the result of the request that is served

	pid     int // 0 while no process runs
	leaving bool
	isUp    bool
}

// keep starts the program again and again until ctx ends. It returns an error if the
// program never stays up, or if Await does.
//
// An end that an outage of Redis explains does not count as a failure of the program,
// because most programs exit when they cannot connect.
func (r *replica) keep(ctx, hard context.Context) error {
	pause := backoff.New(r.cfg.Restart)
	tries := local.Tries{Limit: r.cfg.StartRetries}
	defer r.answer(errStopped)
	for {
		if _, err := r.cfg.Await(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		life, err := r.live(ctx, hard)
		if ctx.Err() != nil {
			return nil
		}
		if life.replaced {
			pause.Reset()
			tries.Reset()
			continue
		}
		r.answer(errors.New(life.end))
		if life.span >= healthyAfter || life.success && life.span >= provenAfter {
			pause.Reset()
			tries.Reset()
		}
		redisWasAway, aerr := r.cfg.Await(ctx)
		switch {
		case aerr != nil || ctx.Err() != nil:
			return aerr
		case redisWasAway:
			pause.Reset()
			tries.Reset()
		case tries.Failed(cmp.Or(err, life.passes)) && !r.proven.Load():
			return &local.StartError{Worker: r.cfg.Name, Reason: life.end, Attempts: pause.Failures() + 1, Err: err}
		}
		d := pause.Next()
		if err == nil {
			r.cfg.Log.Warn("worker ended", "replica", r.n, "reason", life.end, "restart_in", d.Round(time.Millisecond).String())
		} else {
			r.cfg.Log.Warn("worker did not start", "replica", r.n, "error", life.end, "retry_in", d.Round(time.Millisecond).String())
		}
		if !r.rest(ctx, d) {
			return nil
		}
	}
}

// rest is the pause before a restart. A request for a new process ends it.
func (r *replica) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case r.came = <-r.replace:
		return true
	case <-ctx.Done():
		return false
	}
}

var errStopped = errors.New("the sidecar stops")

// answer sends the result to the caller that requested a new process.
func (r *replica) answer(err error) {
	if r.came != nil {
		r.came <- err // buffered
		r.came = nil
	}
}

// life describes one process from its start to its end.
type life struct {
	end      string // the reason, for the log
	span     time.Duration
	replaced bool  // the supervisor ended it to replace it
	success  bool  // it exited by itself with status 0, as pools do that recycle their processes
	passes   error // a transient reason for the end, if there is one
}

// live starts a process and waits for its end. The error is that of a process that
// could not be started.
func (r *replica) live(ctx, hard context.Context) (life, error) {
	began := time.Now()
	p, err := r.start(r.command())
	if err != nil {
		return life{end: local.StartReason(err)}, err
	}
	log := r.cfg.Log.With("replica", r.n, "pid", p.Pid())
	log.Info("worker started", "worker_id", r.workerID)
	r.change(func() { r.pid = p.Pid() })
	out := r.listen(p, log)
	defer func() { // also after a panic
		p.Signal(syscall.SIGKILL)
		<-p.Exited()
		out.close()
		r.change(func() { r.pid, r.leaving = 0, false; r.upLocked(false) })
	}()
	replaced := r.attend(ctx, hard, p, log)
	l := life{replaced: replaced, span: time.Since(began)}
	out.close()
	fate := p.Fate()
	l.success = local.EndingOf(p) == (local.Ending{})
	if l.success && local.LeftBehind(p) {
		l.success = false
		fate += " and daemonized (the sidecar supervises the process that it starts: have it stay in the foreground)"
	}
	l.end = fmt.Sprintf("it %s after %v", fate, l.span.Round(time.Millisecond))
	if last := out.tail.Last(); last != "" {
		l.end += "; its last line on stderr: " + last
	}
	if local.Passes(p, out.tail.Last()) {
		l.passes = local.ErrPasses
	}
	return l, nil
}

func (r *replica) command() *exec.Cmd {
	cmd := exec.Command(r.cfg.Command[0], r.cfg.Command[1:]...)
	cmd.Dir, cmd.ExtraFiles = r.cfg.Dir, r.cfg.Files
	cmd.Env = slices.Clip(r.cfg.Env)
	if r.cfg.RefreshEnv != nil {
		cmd.Env = append(cmd.Env, r.cfg.RefreshEnv()...)
	}
	cmd.Env = append(cmd.Env, "WORKER_ID="+r.workerID, "SIDECAR_PROCESS_ID="+r.workerID+"-"+rand.Text()[:10])
	return cmd
}

// attend waits for the end of the process, and ends it at a stop or for a replacement.
// It returns when the process group is dead, and reports whether it was replaced.
func (r *replica) attend(ctx, hard context.Context, p local.Process, log *slog.Logger) (replaced bool) {
	isUp := time.NewTimer(upAfter)
	defer isUp.Stop()
	proven := time.NewTimer(provenAfter)
	defer proven.Stop()
	for {
		select {
		case <-p.Exited():
			return false
		case <-isUp.C:
			all := false
			r.change(func() { r.upLocked(true); all = r.up == len(r.replicas) })
			r.answer(nil)
			if all {
				r.cfg.AllUp()
			}
		case <-proven.C:
			r.proven.Store(true)
		case came := <-r.replace:
			r.answer(errors.New("it was replaced again")) // the process was not up yet
			r.came = came
			grace, done := context.WithTimeout(hard, r.cfg.StopGrace)
			r.end(grace, p, log)
			done()
			return true
		case <-ctx.Done():
			r.end(hard, p, log)
			return false
		}
	}
}

// end stops the process with SIGTERM, and kills it when patience ends.
func (r *replica) end(patience context.Context, p local.Process, log *slog.Logger) {
	r.change(func() { r.leaving = true; r.upLocked(false) })
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited():
		log.Debug("worker stopped", "reason", p.Fate())
	case <-patience.Done():
		log.Warn("worker does not stop: killed")
		p.Signal(syscall.SIGKILL)
		<-p.Exited()
	}
}

func (r *replica) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *replica) upLocked(up bool) {
	switch {
	case up && !r.isUp:
		r.up++
	case !up && r.isUp:
		r.up--
	}
	r.isUp = up
}

// output logs the streams of a process.
type output struct {
	p    local.Process
	tail local.Tail
	wg   sync.WaitGroup
	once sync.Once
}

// listen logs both streams line by line. The stdin of the process is at its end from
// the start, as under other supervisors.
func (r *replica) listen(p local.Process, log *slog.Logger) *output {
	o := &output{p: p}
	_ = p.Stdin().Close()
	lines := func(pipe io.Reader, msg string, tail *local.Tail) {
		o.wg.Go(func() {
			r.safe(func() error { local.LogLines(pipe, log, msg, tail, nil); return nil })
		})
	}
	lines(p.Stdout(), "worker stdout", &local.Tail{})
	lines(p.Stderr(), "worker stderr", &o.tail)
	return o
}

// close reads the remaining output of the dead process, within a bound.
func (o *output) close() {
	o.once.Do(func() {
		deadline := time.Now().Add(outputGrace)
		_ = o.p.Stdout().SetReadDeadline(deadline)
		_ = o.p.Stderr().SetReadDeadline(deadline)
		o.wg.Wait()
		_ = o.p.Stdout().Close()
		_ = o.p.Stderr().Close()
	})
}
