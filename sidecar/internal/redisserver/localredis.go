// Package redisserver is the Redis that the sidecar itself owns
// (REDIS_URL=embedded): a redis-server or valkey-server from PATH, else
// miniredis in this process. It listens on loopback only and keeps nothing:
// what it holds is gone when it stops.
package redisserver

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
)

// Kind says what serves.
type Program string

// What a Server can be.
const (
	ProgramRedis     Program = "redis-server"
	ProgramValkey    Program = "valkey-server"
	ProgramMiniredis Program = "miniredis"
)

// Options of Start; the zero value is usable.
type Options struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
	// Password that clients must give; empty means none. Anyone on this
	// machine can reach a loopback port, and Graflow's workers unpickle what
	// they find in Redis, so set one where other users share the machine.
	Password string
	// InProcess takes miniredis even where a server is on PATH.
	InProcess bool
	// Log gets the server's own output at level debug; nil means
	// slog.Default().
	Log *slog.Logger
}

// Server is a running local Redis. Its methods may be called from any
// goroutine.
type Server struct {
	program  Program
	addr     string
	password string

	proc *serverproc.Process // nil for miniredis
	mini *mini               // nil for a process
	once sync.Once
	done chan struct{}
	err  error // valid once done is closed
}

// Start returns a server that answers, or an error that says what was tried.
// ctx bounds the start only. A server found on PATH that does not start is an
// error: miniredis takes its place only where there is none.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("local Redis: port %d is not within 0 and 65535", opts.Port)
	}
	if strings.ContainsAny(opts.Password, "\r\n") {
		return nil, fmt.Errorf("local Redis: the password holds a line break")
	}
	binary, err := serverproc.Find()
	if opts.InProcess || err != nil {
		return startMiniredis(opts)
	}
	return startProcess(ctx, binary, opts)
}

func startProcess(ctx context.Context, binary string, opts Options) (*Server, error) {
	kind := Program(filepath.Base(binary))
	dir, err := os.MkdirTemp("", "sidecar-redis-") // 0700: it holds the password
	if err != nil {
		return nil, fmt.Errorf("local Redis: %w", err)
	}
	var args []string
	if opts.Password != "" {
		args = append(args, "--requirepass", opts.Password)
	}
	proc, err := serverproc.Start(ctx, serverproc.Options{
		Binary: binary, Dir: dir, Port: opts.Port, Args: args,
		Output: func(line string) {
			opts.Log.Debug("embedded redis output", "line", line)
		},
		Waiting: func(err error) {
			opts.Log.Warn("embedded redis cannot be started, trying again", "error", err)
		},
	})
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("local Redis: %w", err)
	}
	s := &Server{program: kind, addr: proc.Addr(), password: opts.Password, proc: proc, done: make(chan struct{})}
	go s.watch(dir)
	return s, nil
}

// watch owns the end of a process: its folder goes with it, whether it was
// stopped or died.
func (s *Server) watch(dir string) {
	<-s.proc.Done()
	s.err = s.proc.Err()
	if err := os.RemoveAll(dir); err != nil && s.err == nil {
		s.err = fmt.Errorf("local Redis: remove its folder: %w", err)
	}
	close(s.done)
}

// URL is the address to give to clients, with the password if there is one:
// not for the log.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.addr, Path: "/0"}
	if s.password != "" {
		u.User = url.UserPassword("", s.password)
	}
	return u.String()
}

// Addr is "127.0.0.1:port".
func (s *Server) Addr() string { return s.addr }

// Kind says what serves.
func (s *Server) Program() Program { return s.program }

// Done is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says why the server ended once Done is closed: nil after Stop, else what
// happened to it.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends the server and returns when it is gone: SIGTERM, and SIGKILL when
// ctx ends first, which is the error then. Clients should have been closed
// before. A second Stop, or one after the server died, does nothing.
func (s *Server) Stop(ctx context.Context) error {
	if s.mini != nil {
		s.once.Do(func() {
			s.mini.close()
			close(s.done)
		})
		<-s.done
		return nil
	}
	err := s.proc.Stop(ctx)
	<-s.done
	return err
}
