package redisserver

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
)

// mini is miniredis, which was made for tests, in front of clients that may send
// anything: what would bring it down would bring the sidecar down with it.
type mini struct {
	*miniredis.Miniredis
	ln      net.Listener
	serving sync.WaitGroup
}

func startMiniredis(opts Options) (*Server, error) {
	m := &mini{Miniredis: miniredis.NewMiniRedis()}
	// Keys expire by the clock, as in a real server; without it only tests
	// that call FastForward ever see one expire.
	m.ClockTTL(true)
	if opts.Password != "" {
		m.RequireAuth(opts.Password)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(serverproc.Host, strconv.Itoa(opts.Port)))
	if err != nil {
		return nil, fmt.Errorf("local Redis: miniredis: %w", err)
	}
	first, err := m.Dial() // starts it without a listener of its own
	if err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("local Redis: miniredis: %w", err)
	}
	_ = first.Close()
	m.ln = ln
	srv := m.Server()
	srv.SetPreHook((&guard{srv: srv, lock: m.Miniredis, log: opts.Log, inside: make(map[*server.Peer]bool)}).hook)
	m.serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			srv.ServeConn(newRequestConn(conn))
		}
	})
	return &Server{program: ProgramMiniredis, addr: ln.Addr().String(), password: opts.Password, mini: m, done: make(chan struct{})}, nil
}

// close returns when every connection has ended.
func (m *mini) close() {
	_ = m.ln.Close()
	m.serving.Wait()
	m.Close()
}

// guard keeps a command that miniredis does not bear from ending the process.
type guard struct {
	srv  *server.Server
	lock sync.Locker // miniredis' own
	log  *slog.Logger

	mu     sync.Mutex
	inside map[*server.Peer]bool // whose command is being run by hook
}

// hook runs before every command and, called by itself, lets it pass. True means that
// the command is done.
func (g *guard) hook(p *server.Peer, cmd string, args ...string) (done bool) {
	if g.enter(p) {
		return false
	}
	defer g.leave(p)
	if l, ok := limits[cmd]; ok && l.arg < len(args) && beyond(args[l.arg], l.most) {
		p.WriteError("ERR value is out of range")
		return true
	}
	defer func() {
		if v := recover(); v != nil {
			done = true
			g.broke(p, cmd, v)
		}
	}()
	g.srv.Dispatch(p, append([]string{cmd}, args...))
	return true
}

// broke comes after a panic, on its goroutine, and puts miniredis into order again. What
// panics within a script is left to the interpreter, which makes an error of it.
func (g *guard) broke(p *server.Peer, cmd string, v any) {
	stack := string(debug.Stack()) // with the frames that have panicked
	if strings.Count(stack, "(*guard).hook(") > 1 {
		panic(v)
	}
	if strings.Contains(stack, ".withTx(") {
		g.lock.Unlock() // withTx does not defer that
	}
	g.log.Warn("embedded redis panicked at a command: connection closed", "command", cmd, "error", fmt.Sprint(v))
	p.WriteError("ERR miniredis does not bear this command")
	p.Close()
}

// enter reports whether the peer's command is being run already. A peer has one at a
// time.
func (g *guard) enter(p *server.Peer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside[p] {
		return true
	}
	g.inside[p] = true
	return false
}

func (g *guard) leave(p *server.Peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inside, p)
}

// limits are for the commands by one of whose arguments miniredis takes memory or time
// without a limit.
var limits = map[string]struct {
	arg  int
	most float64
}{
	"SETRANGE":    {1, maxBulk},
	"SETBIT":      {1, 8 * maxBulk},
	"SRANDMEMBER": {1, maxArgs}, "HRANDFIELD": {1, maxArgs}, "ZRANDMEMBER": {1, maxArgs},
}

// beyond reports whether an argument is a number and too far from 0.
func beyond(arg string, most float64) bool {
	n, err := strconv.ParseFloat(arg, 64)
	return err == nil && math.Abs(n) > most
}
