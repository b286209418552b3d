package app

import (
	"cmp"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/page"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// tally is what has become of this sidecar's tasks since its start: how many, and
// the last failures.
type tally struct {
	failures page.Failures

	mu           sync.Mutex
	done, failed int64
}

// add enters an outcome that Redis has heard of. What only went back to the queue
// is no end, but a worker's death and a retry are worth seeing.
func (t *tally) add(o task.Outcome, v report.Verdict) {
	if v == report.Late || o.Kind == task.Returned {
		return
	}
	if o.Kind != task.Succeeded {
		var took time.Duration
		if !o.StartedAt.IsZero() {
			took = o.EndedAt.Sub(o.StartedAt)
		}
		t.failures.Add(page.Failure{
			At: o.EndedAt, TaskID: o.Task.Info.TaskID, SessionID: o.Task.Info.SessionID, GroupID: o.Task.Info.GroupID,
			Kind: o.Kind.String(), Reason: o.Reason, Message: o.Message, Stderr: o.Stderr,
			Attempt: o.Task.Attempt, Took: took.Milliseconds(),
		})
	}
	if o.Kind == task.Lost || o.Kind == task.Retry {
		return // it is tried again, or comes once more as dead
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done++
	if o.Kind != task.Succeeded {
		t.failed++
	}
}

func (t *tally) counts() (done, failed int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done, t.failed
}

// settled notes what Redis has heard of.
func (a *App) settled(o task.Outcome, v report.Verdict) {
	a.held.remove(o.Task.Delivery)
	a.tally.add(o, v)
}

// currentRun is the id of the run, or of the last one; none before the first.
func (a *App) currentRun() string {
	if run := a.lastRun.Load(); run != nil {
		return *run
	}
	return ""
}

// self is this run as it is now, from memory.
func (a *App) self() fleet.Run {
	s := a.Status()
	host, _ := os.Hostname() // for people
	r := fleet.Run{
		ID: a.currentRun(), WorkerID: a.cfg.WorkerID, Host: host, PID: os.Getpid(), Version: a.cfg.Version,
		Mode: string(a.cfg.Mode), Command: cmp.Or(a.cfg.Worker.Name, strings.Join(a.cfg.Worker.Command, " ")),
		State: string(s.State), Since: a.began, Seen: time.Now(), HTTP: a.HTTPAddr(),
		Slots: s.Capacity, Busy: s.InFlight, Waiting: s.Waiting, Unreported: s.Unreported,
	}
	r.Done, r.Failed = a.tally.counts()
	for _, slot := range s.Slots {
		r.Children = append(r.Children, child(slot))
	}
	return r
}

func child(slot Slot) fleet.Child {
	c := fleet.Child{Slot: slot.Slot, PID: slot.Pid, State: "serving"}
	switch {
	case slot.Leaving:
		c.State = "leaving"
	case slot.Lent:
		c.State = "lent"
	}
	for _, t := range slot.Tasks {
		shown := fleet.Task{
			TaskID: t.TaskID, SessionID: t.SessionID, GroupID: t.GroupID, Delivery: t.Delivery, Attempt: t.Attempt,
			Since: t.Started, Waiting: t.Waiting, Message: t.Progress.Message,
		}
		if !t.Progress.At.IsZero() {
			shown.Progress = new(t.Progress.Fraction)
		}
		c.Tasks = append(c.Tasks, shown)
	}
	return c
}
