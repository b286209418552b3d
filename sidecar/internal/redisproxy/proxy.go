// Package redisproxy gives workers in another container access to Redis over a Unix
// socket. Graflow's engine reads graphs and channels directly, and its container should
// not have the credentials of Redis.
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

// Config configures a Proxy. Every field is required.
type Config struct {
	Path string
	Mode os.FileMode
	// Dial opens an authenticated connection to Redis.
	Dial func(ctx context.Context) (net.Conn, error)
	Log  *slog.Logger
}

// Proxy copies data byte for byte between the connections of its socket and one
// connection to Redis for each of them.
type Proxy struct {
	cfg    Config
	socket *unixsocket.Socket
	conns  sync.WaitGroup
	tokens chan struct{} // a token for each connection
}

const (
	// maxConns is the maximum number of connections, and fileShare the part of the file
	// descriptors that they may use; each needs two. The connection pool of a worker is
	// small.
	maxConns  = 1024
	fileShare = 8
)

// Listen creates the socket. Call Run afterwards, or Close without Run.
func Listen(cfg Config) (*Proxy, error) {
	socket, err := unixsocket.Listen(cfg.Path, cfg.Mode)
	if err != nil {
		return nil, err
	}
	return &Proxy{cfg: cfg, socket: socket, tokens: make(chan struct{}, max(min(maxConns, connlimit.Files()/fileShare), 1))}, nil
}

// Close removes the socket. It may be called more than once.
func (p *Proxy) Close() { _ = p.socket.Close() }

// Run serves until ctx ends, and returns when every connection is closed.
func (p *Proxy) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, p.Close)()
	err := recoverpanic.Do(func() error { return p.accept(ctx) })
	p.Close()
	p.conns.Wait()
	return err
}

func (p *Proxy) accept(ctx context.Context) error {
	pause := backoff.New(backoff.Policy{Min: 10 * time.Millisecond, Max: time.Second})
	for {
		conn, err := p.socket.Accept()
		switch {
		case err == nil:
			pause.Reset()
			select {
			case p.tokens <- struct{}{}:
				p.conns.Go(func() {
					defer func() { <-p.tokens }()
					p.serve(ctx, conn)
				})
			default:
				_ = conn.Close() // the worker's client retries
				p.cfg.Log.Debug("too many connections of workers to redis", "connections", len(p.tokens))
			}
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			p.cfg.Log.Warn("connection of a worker to redis could not be accepted", "error", err)
			pause.Sleep(ctx)
		}
	}
}

// serve serves one connection. It closes the connection if Redis is unreachable, which
// the worker's Redis client handles.
func (p *Proxy) serve(ctx context.Context, near *net.UnixConn) {
	defer near.Close()
	far, err := p.cfg.Dial(ctx)
	if err != nil {
		p.cfg.Log.Debug("redis could not be reached for a worker", "error", err)
		return
	}
	defer far.Close()
	defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
	var one sync.WaitGroup
	one.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close() // a client that has closed reads no more replies
	})
	_, _ = io.Copy(near, far)
	_ = near.Close()
	one.Wait()
}
