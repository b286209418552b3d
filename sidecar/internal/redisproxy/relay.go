// Package redisproxy lends a sidecar's way to Redis to workers in another container,
// over a Unix socket: Graflow's engine reads graphs and channels for itself, and
// is to do so without credentials that its container would have to hold.
package redisproxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/connlimit"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/unixsocket"
)

// Config says where a Relay listens and what is behind it. Every field is
// required.
type Config struct {
	Path string
	Mode os.FileMode
	// Dial opens a connection that is logged in.
	Dial func(ctx context.Context) (net.Conn, error)
	Log  *slog.Logger
}

// Relay passes on what comes, byte for byte: each connection has one of its own
// to Redis.
type Relay struct {
	cfg    Config
	socket *unixsocket.Socket
	conns  sync.WaitGroup
	places chan struct{} // a token for each connection
}

const (
	// maxConns bounds the connections, and fileShare which part of the descriptors
	// they may take; each needs two. A worker's pool of connections is small.
	maxConns  = 1024
	fileShare = 8
)

// Listen makes the socket. Call Run, or Close if that is not to come.
func Listen(cfg Config) (*Relay, error) {
	socket, err := unixsocket.Listen(cfg.Path, cfg.Mode)
	if err != nil {
		return nil, err
	}
	return &Relay{cfg: cfg, socket: socket, places: make(chan struct{}, max(min(maxConns, connlimit.Files()/fileShare), 1))}, nil
}

// Close removes the socket. It may be called more than once.
func (r *Relay) Close() { _ = r.socket.Close() }

// Run serves until ctx ends, and returns when every connection is closed.
func (r *Relay) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.Close)()
	err := recoverpanic.Do(func() error { return r.accept(ctx) })
	r.Close()
	r.conns.Wait()
	return err
}

func (r *Relay) accept(ctx context.Context) error {
	pause := backoff.New(backoff.Policy{Min: 10 * time.Millisecond, Max: time.Second})
	for {
		conn, err := r.socket.Accept()
		switch {
		case err == nil:
			pause.Reset()
			select {
			case r.places <- struct{}{}:
				r.conns.Go(func() {
					defer func() { <-r.places }()
					r.serve(ctx, conn)
				})
			default:
				_ = conn.Close() // the worker's client tries again
				r.cfg.Log.Debug("too many connections of workers to redis", "connections", len(r.places))
			}
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			r.cfg.Log.Warn("connection of a worker to redis could not be accepted", "error", err)
			pause.Sleep(ctx)
		}
	}
}

// serve is one connection. Where Redis is away it is closed: the worker's own
// client knows what to do then.
func (r *Relay) serve(ctx context.Context, near *net.UnixConn) {
	defer near.Close()
	far, err := r.cfg.Dial(ctx)
	if err != nil {
		r.cfg.Log.Debug("redis could not be reached for a worker", "error", err)
		return
	}
	defer far.Close()
	defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
	var one sync.WaitGroup
	one.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close() // a client that has closed wants no more answers
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	one.Wait()
}
