// Package redisserver runs the embedded Redis of the sidecar (REDIS_URL=embedded): a
// redis-server or valkey-server from PATH, or else miniredis in this process. It listens
// on loopback only and persists nothing.
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

// Program is the program that serves.
type Program string

// The programs of a Server.
const (
	ProgramRedis     Program = "redis-server"
	ProgramValkey    Program = "valkey-server"
	ProgramMiniredis Program = "miniredis"
)

// Options configures Start. The zero value is usable.
type Options struct {
	// Port is the port on 127.0.0.1; 0 picks a free one.
	Port int
	// Password is required from clients; empty means none. Every user of this machine can
	// reach a loopback port, and Graflow's workers unpickle data from Redis, so set a
	// password on a shared machine.
	Password string
	// InProcess uses miniredis even if a server is on PATH.
	InProcess bool
	// Log receives the output of the server at level debug; nil means slog.Default().
	Log *slog.Logger
}

// Server is a running embedded Redis. Its methods may be called from any goroutine.
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

// Start starts a server and returns when it answers. The error names the attempts. ctx
// bounds the start only. Start uses miniredis only if PATH has no server: one
// that does not start is an error.
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
	dir, err := os.MkdirTemp("", "sidecar-redis-") // 0700: it contains the password
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

// watch removes the folder of a process after its end.
func (s *Server) watch(dir string) {
	<-s.proc.Done()
	s.err = s.proc.Err()
	if err := os.RemoveAll(dir); err != nil && s.err == nil {
		s.err = fmt.Errorf("local Redis: remove its folder: %w", err)
	}
	close(s.done)
}

// URL returns the address for clients, including the password if there is one. It must
// not be logged.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.addr, Path: "/0"}
	if s.password != "" {
		u.User = url.UserPassword("", s.password)
	}
	return u.String()
}

// Addr returns "127.0.0.1:port".
func (s *Server) Addr() string { return s.addr }

// Program returns the program that serves.
func (s *Server) Program() Program { return s.program }

// Done returns a channel that is closed when the server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns the reason of the end once Done is closed: nil after Stop, otherwise an
// error.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop ends the server and returns when it is gone. It sends SIGTERM, and SIGKILL when
// ctx ends first, whose error it then returns. Clients should be closed before. A second
// Stop, or one after the server died, does nothing.
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
