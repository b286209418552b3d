package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// link is the control connection of one host. The lock of the hub guards its state,
// except for writing.
type link struct {
	hub  *Hub
	conn net.Conn
	name string
	log  *slog.Logger
	gone chan struct{} // closed when the connection has ended

	stopping chan struct{} // closed when leaving is set
	hangups  local.Hangups

	procs   map[string]*process // the processes that have not ended
	leaving bool                // the host drains
	why     string              // the reason why it was dropped

	writing sync.Mutex
}

// say sends a message. It drops a host that does not receive it.
func (l *link) say(m message) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := say(l.conn, m); err != nil {
		l.drop("does not read what it is told")
	}
}

// drop gives up the host. The goroutine that reads from the connection does the rest.
func (l *link) drop(why string) {
	l.hub.mu.Lock()
	if l.why == "" {
		l.why = why
	}
	l.hub.mu.Unlock()
	_ = l.conn.Close()
}

// loadLocked returns the number of the host's children that do not leave.
func (l *link) loadLocked() (n int) {
	for _, p := range l.procs {
		p.mu.Lock()
		if !p.left {
			n++
		}
		p.mu.Unlock()
	}
	return n
}

// newestLocked returns the running child that was started last.
func (l *link) newestLocked() (newest *process) {
	last := -1
	for _, p := range l.procs {
		n, _ := strconv.Atoi(p.id)
		select {
		case <-p.up:
		default:
			continue
		}
		p.mu.Lock()
		left := p.left
		p.mu.Unlock()
		if !left && n > last {
			newest, last = p, n
		}
	}
	return newest
}

// startTimeout bounds one start. It takes milliseconds; a host that needs longer is
// stuck.
const startTimeout = 10 * time.Second

// start makes the host start a child, and waits until it runs.
func (l *link) start(ctx context.Context, p *process, mark string) error {
	l.say(message{Type: typeStart, Child: p.id, Nonce: p.nonce, Mark: mark, Env: l.hub.cfg.Env})
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-p.up:
		l.hub.mu.Lock()
		defer l.hub.mu.Unlock()
		l.hub.balanceLocked()
		if l.leaving {
			p.leave()
		}
		return nil
	case reason := <-p.failed:
		p.discard()
		if l.isLeaving() {
			return errGone
		}
		return errors.New(reason)
	case <-l.gone:
		p.discard()
		return errGone
	case <-ctx.Done():
		p.discard()
		return ctx.Err()
	case <-timer.C:
		l.drop("did not start a process in time")
		p.discard()
		return fmt.Errorf("the worker container did not start it within %v", startTimeout)
	}
}

func (l *link) isLeaving() bool {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	return l.leaving
}

// child returns a child that has not ended, or nil.
func (l *link) child(id string) *process {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	return l.procs[id]
}

// take handles a message.
func (l *link) take(m message) {
	p := l.child(m.Child)
	switch m.Type {
	case typeStarted:
		if p != nil {
			p.started(m.PID)
		}
	case typeFailed:
		if p != nil {
			select {
			case p.failed <- m.Reason:
			default:
			}
		}
	case typeExit:
		if p != nil {
			l.hub.forget(p)
			p.exit(m)
		}
	case typeDrain:
		l.drain()
	case typeHangup:
		l.hangups.Note()
	}
}

// drain handles the message that the host stops.
func (l *link) drain() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.leaving {
		return
	}
	l.leaving = true
	close(l.stopping)
	l.log.Info("worker container drains: its tasks finish, no new ones", "workers", len(l.procs))
	for _, p := range l.procs {
		p.leave()
	}
}

// fall handles the end of the connection, with which every child of the host is lost.
func (l *link) fall(err error) {
	h := l.hub
	h.mu.Lock()
	delete(h.links, l)
	left := l.procs
	l.procs = make(map[string]*process)
	why, closed, leaving := l.why, h.closed, l.leaving
	if _, ours := left[movingID(h)]; ours && h.moving.link == l {
		h.moving = nil
	}
	close(l.gone)
	h.changeLocked()
	h.mu.Unlock()

	switch {
	case closed, leaving && len(left) == 0:
		l.log.Info("worker container is gone")
	case why != "":
		l.log.Warn("worker container is given up", "reason", why, "workers", len(left))
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		l.log.Warn("worker container is lost", "workers", len(left))
	default:
		l.log.Warn("worker container is lost", "workers", len(left), "error", err)
	}
	for _, p := range left {
		p.lost("was lost with its container", len(left) > 1)
	}
}

func movingID(h *Hub) string {
	if h.moving == nil {
		return ""
	}
	return h.moving.id
}
