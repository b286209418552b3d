package app

import (
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// holds are the reasons why nothing is claimed. Each ends by itself: whoever
// resumes what was paused through Redis does not end what a signal asked for.
type holds struct {
	mu               sync.Mutex
	signal, own, all bool
	// silent is a run that has not claimed anything, since it was paused from the
	// first: not even the last look of the queue's Quiet is for it.
	silent string
}

// silence is called for a run that has just been registered, before anybody can
// claim for it.
func (h *holds) silence(run string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.own || h.all {
		h.silent = run
	}
}

func (h *holds) isSilent(run string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent == run
}

func (h *holds) paused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.own || h.all
}

// hold changes the reasons, and quietens the queue while there is one.
func (a *App) hold(change func(h *holds)) {
	h := &a.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	before, signal, paused := h.signal || h.own || h.all, h.signal, h.own || h.all
	change(h)
	if h.signal != signal || (h.own || h.all) != paused {
		a.lease.Announce()
	}
	after := h.signal || h.own || h.all
	switch {
	case after && !before:
		a.queue.Quiet()
		go a.unblock() // bounded by claimBudget
	case before && !after:
		h.silent = ""
		a.queue.Resume()
	}
}

// told hears with each tick whether this run, or all, are paused, and what
// else people want of it.
func (a *App) told(own, all bool, orders []fleet.Order) {
	was, is := a.holds.paused(), own || all
	if is && !was {
		a.log.Info("paused: no new tasks until sidecar resume", "all", all)
	}
	a.hold(func(h *holds) { h.own, h.all = own, all })
	if was && !is {
		a.log.Info("pause is over: claiming tasks")
	}
	for _, o := range orders {
		a.obey(o)
	}
	if a.aside.Any() && a.waitsLong.Load() {
		go a.unblock() // bounded by claimBudget; no arrival tells of such records
	}
}

func (a *App) obey(o fleet.Order) {
	switch o.Do {
	case fleet.Drain:
		a.log.Info("stopping by command: no new tasks, the running ones finish", "by", o.By, "within", a.cfg.ShutdownTimeout.String())
		a.Stop()
	case fleet.RestartChildren:
		a.log.Info("replacing the workers by command", "by", o.By)
		a.Renew()
	case fleet.RestartChild:
		a.log.Info("replacing a worker by command", "by", o.By, "slot", o.Slot)
		if !a.pool.RenewSlot(o.Slot) {
			a.log.Warn("no worker to replace in this slot", "slot", o.Slot)
		}
	default:
		a.log.Warn("unknown command", "do", o.Do, "by", o.By)
	}
}
