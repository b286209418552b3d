package fleet

import (
	"log/slog"
	"sync"
	"time"
)

// Control pauses a sidecar, and carries out the commands that it is given through
// Redis. Its methods may be called concurrently. No field changes once one was called.
type Control struct {
	// Queue claims nothing between Quiet and Resume.
	Queue interface {
		Quiet()
		Resume()
	}
	// Unblock ends the wait for records that is under way. It does not wait for that.
	Unblock func()
	// Announce has the registry say at once that the state has changed.
	Announce func()
	// Drain stops the sidecar within ShutdownTimeout.
	Drain           func()
	ShutdownTimeout time.Duration
	// Restart replaces all workers, RestartSlot the one in a slot, if there is one.
	Restart     func()
	RestartSlot func(slot int) bool
	Log         *slog.Logger

	pause pauseState
}

// pauseState are the reasons why nothing is claimed. Each ends by itself: a resume
// through Redis does not end what a signal asked for.
type pauseState struct {
	mu       sync.Mutex
	signal   bool // a signal asked for it
	own, all bool // it was asked for through Redis: of this run, of all
	// silent is a run that has not claimed anything, since it was paused from the
	// first: not even the last look of the queue's Quiet is for it.
	silent string
}

// SetQuiet begins or ends the pause that a signal asks for.
func (c *Control) SetQuiet(on bool) { c.change(func(p *pauseState) { p.signal = on }) }

// change changes the reasons, and quietens the queue while there is one.
func (c *Control) change(set func(p *pauseState)) {
	p := &c.pause
	p.mu.Lock()
	defer p.mu.Unlock()
	before, signal, paused := p.signal || p.own || p.all, p.signal, p.own || p.all
	set(p)
	if p.signal != signal || (p.own || p.all) != paused {
		c.Announce()
	}
	after := p.signal || p.own || p.all
	switch {
	case after && !before:
		c.Queue.Quiet()
		c.Unblock()
	case before && !after:
		p.silent = ""
		c.Queue.Resume()
	}
}

// Paused reports whether this run, or all, are paused through Redis.
func (c *Control) Paused() bool {
	c.pause.mu.Lock()
	defer c.pause.mu.Unlock()
	return c.pause.own || c.pause.all
}

// OnRegistered is called for a run that has just been registered, before anything can
// be claimed for it.
func (c *Control) OnRegistered(run string) {
	c.pause.mu.Lock()
	defer c.pause.mu.Unlock()
	if c.pause.own || c.pause.all {
		c.pause.silent = run
	}
}

// IsSilent reports whether nothing at all may be claimed for a run.
func (c *Control) IsSilent(run string) bool {
	c.pause.mu.Lock()
	defer c.pause.mu.Unlock()
	return c.pause.silent == run
}

// OnTick is called with each tick: own and all say whether this run, or all, are
// paused.
func (c *Control) OnTick(own, all bool, commands []Command) {
	was, is := c.Paused(), own || all
	if is && !was {
		c.Log.Info("paused: no new tasks until sidecar resume", "all", all)
	}
	c.change(func(p *pauseState) { p.own, p.all = own, all })
	if was && !is {
		c.Log.Info("pause is over: claiming tasks")
	}
	for _, command := range commands {
		c.handleCommand(command)
	}
}

func (c *Control) handleCommand(o Command) {
	switch o.Action {
	case Drain:
		c.Log.Info("stopping by command: no new tasks, the running ones finish", "by", o.By, "within", c.ShutdownTimeout.String())
		c.Drain()
	case RestartChildren:
		c.Log.Info("replacing the workers by command", "by", o.By)
		c.Restart()
	case RestartChild:
		c.Log.Info("replacing a worker by command", "by", o.By, "slot", o.Slot)
		if !c.RestartSlot(o.Slot) {
			c.Log.Warn("no worker to replace in this slot", "slot", o.Slot)
		}
	default:
		c.Log.Warn("unknown command", "do", o.Action, "by", o.By)
	}
}
