package reaper

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pause bounds how often the reaper checks when children end all the time.
	pause = 10 * time.Millisecond
	// patience is how long the reaper waits for another signal before it checks again,
	// since the kernel's list of children may miss one while others end. After that
	// check it waits for signals only, so that an idle process is not woken.
	patience = 5 * time.Second
)

// Reaper reaps the orphans of this process.
type Reaper struct {
	log     *slog.Logger
	roll    *roll
	signals chan os.Signal
	stop    chan struct{}
	once    sync.Once
	done    chan struct{}
}

// Begin makes this process a child subreaper and reaps the orphans that it gets, until
// Stop. There may be one Reaper at a time. It fails if /proc does not show the children
// of this process; orphans then go to the usual reaper.
func Begin(log *slog.Logger) (*Reaper, error) {
	// With the numbers of another PID namespace this would wait for wrong processes.
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("/proc does not show this process as %d", os.Getpid())
	}
	if err := subreap(1); err != nil {
		return nil, fmt.Errorf("cannot become a child subreaper: %w", err)
	}
	r := &Reaper{log: log, roll: openRoll(), signals: make(chan os.Signal, 1), stop: make(chan struct{}), done: make(chan struct{})}
	family.setReaper(r)
	signal.Notify(r.signals, syscall.SIGCHLD)
	go r.loop()
	return r, nil
}

func subreap(on uintptr) error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, on, 0, 0, 0) }

// Stop kills every remaining orphan, reaps them and ends the role of subreaper. It may
// be called more than once, when every worker has ended.
func (r *Reaper) Stop() {
	r.once.Do(func() {
		killed, left := r.end(func(int) answer { return yes }, 0, stopGrace)
		r.tell(killed, left)
		family.setReaper(nil)
		close(r.stop)
		<-r.done
		signal.Stop(r.signals)
		_ = subreap(0)
		r.reap()
		r.roll.close()
	})
}

func (r *Reaper) loop() {
	defer close(r.done)
	patient := time.NewTimer(patience)
	defer patient.Stop()
	again := true // after a signal: one more check
	brief := time.NewTimer(pause)
	defer brief.Stop()
	for {
		r.reap()
		brief.Reset(pause)
		select {
		case <-r.stop:
			return
		case <-brief.C:
		}
		if again {
			patient.Reset(patience)
		}
		select {
		case <-r.stop:
			return
		case <-r.signals:
			again = true
		case <-family.kick:
			again = true
		case <-patient.C:
			again = false
		}
	}
}

// reap reaps every orphan that has ended. It first checks, without reaping (WNOWAIT),
// and only unclaimed children: waitid(P_ALL) would always return the same one, even
// while os/exec is about to reap it, and wait4(-1) would take its status away.
func (r *Reaper) reap() {
	f := &family
	f.mu.Lock()
	defer f.mu.Unlock()
	var ended []int
	if !r.roll.isEmpty() {
		for _, pid := range children("self") {
			if f.claimed[pid] == 0 && hasEnded(pid) {
				ended = append(ended, pid)
			}
		}
	}
	for _, pid := range f.orphansLocked(ended) {
		_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if err == nil {
			r.log.Debug("leftover process ended", "pid", pid)
		}
	}
}

// isChild reports whether pid is a child of this process, ended or not.
func isChild(pid int) bool { _, err := look(pid); return err == nil }

// hasEnded reports whether a child has ended and is not reaped.
func hasEnded(pid int) bool { ended, err := look(pid); return err == nil && ended }

func look(pid int) (ended bool, err error) {
	var info unix.Siginfo
	for {
		err = unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err != unix.EINTR {
			return info.Signo == int32(unix.SIGCHLD), err
		}
	}
}
