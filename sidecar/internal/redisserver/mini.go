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

// mini runs miniredis, a library for tests, for clients that may send anything. It guards
// the sidecar against commands that would crash miniredis and the process with it.
type mini struct {
	*miniredis.Miniredis
	ln      net.Listener
	serving sync.WaitGroup
}

func startMiniredis(opts Options) (*Server, error) {
	m := &mini{Miniredis: miniredis.NewMiniRedis()}
	// Keys expire by the clock, as in a real server. Without it keys expire only when
	// tests call FastForward.
	m.ClockTTL(true)
	if opts.Password != "" {
		m.RequireAuth(opts.Password)
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(serverproc.Host, strconv.Itoa(opts.Port)))
	if err != nil {
		return nil, fmt.Errorf("local Redis: miniredis: %w", err)
	}
	first, err := m.Dial() // starts it without its own listener
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

// close closes the server and returns when every connection has ended.
func (m *mini) close() {
	_ = m.ln.Close()
	m.serving.Wait()
	m.Close()
}

// guard recovers from panics of miniredis commands, which would otherwise end the
// process.
type guard struct {
	srv  *server.Server
	lock sync.Locker // the lock of miniredis
	log  *slog.Logger

	mu     sync.Mutex
	inside map[*server.Peer]bool // peers whose command hook is running
}

// hook runs before every command. For its own nested call it lets the command pass. It
// returns true if the command is done.
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

// broke repairs the state of miniredis after a panic, on the goroutine of the panic. A
// panic within a script is left to the interpreter, which makes an error of it.
func (g *guard) broke(p *server.Peer, cmd string, v any) {
	stack := string(debug.Stack()) // includes the frames that panicked
	if strings.Count(stack, "(*guard).hook(") > 1 {
		panic(v)
	}
	if strings.Contains(stack, ".withTx(") {
		g.lock.Unlock() // withTx does not defer the unlock
	}
	g.log.Warn("embedded redis panicked at a command: connection closed", "command", cmd, "error", fmt.Sprint(v))
	p.WriteError("ERR miniredis does not bear this command")
	p.Close()
}

// enter reports whether the peer's command is running already. A peer runs one command at
// a time.
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

// limits bound the arguments by which a command makes miniredis use unbounded memory or
// time.
var limits = map[string]struct {
	arg  int
	most float64
}{
	"SETRANGE":    {1, maxBulk},
	"SETBIT":      {1, 8 * maxBulk},
	"SRANDMEMBER": {1, maxArgs}, "HRANDFIELD": {1, maxArgs}, "ZRANDMEMBER": {1, maxArgs},
}

// beyond reports whether an argument is a number whose absolute value exceeds most.
func beyond(arg string, most float64) bool {
	n, err := strconv.ParseFloat(arg, 64)
	return err == nil && math.Abs(n) > most
}
