package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redisproxy"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/remote"
)

// SocketConfig says where workers of other containers connect to; docs/socket.md
// has what it is for.
type SocketConfig struct {
	// Path is that of a Unix socket that the sidecar makes; none if empty.
	Path string
	Mode os.FileMode
}

// elsewhere is what there is for workers in other containers: nothing, unless
// that is wanted.
type elsewhere struct {
	hub   *remote.Hub
	relay *redisproxy.Relay // to Redis, for Graflow's workers
}

// WorkersExpected reports whether there is something wrong where no worker is
// up: false where they come by themselves, and after the sidecar.
func (a *App) WorkersExpected() bool { return a.cfg.Worker.Socket.Path == "" }

// validate complains about what does not go together.
func (s SocketConfig) validate(c *Config, check func(ok bool, format string, args ...any)) {
	if s.Path == "" {
		check(len(c.Worker.Command) > 0, "no worker command")
		return
	}
	check(len(c.Worker.Command) == 0, "Worker.Command and Worker.Socket exclude each other: the command is that of the worker's container")
	check(c.Mode == ModeRPC, "Worker.Socket (SIDECAR_WORKER_SOCKET) goes with mode rpc only: the others start processes of their own")
	check(s.Mode&^0o770 == 0 && s.Mode&0o600 == 0o600, "Worker.Socket.Mode is %04o, and must be 0600 to 0770: who can reach the socket gets tasks", s.Mode)
	check(c.Worker.MaxChildRSS == 0, "Worker.MaxChildRSS (SIDECAR_MAX_CHILD_RSS) does not go with Worker.Socket: the memory of a process in another container cannot be seen; bound that container's")
	check(len(c.Worker.ForkServer) == 0, "Worker.ForkServer does not go with Worker.Socket")
}

// listen makes the sockets, if they are wanted, and has the process stage ask
// there for its children.
func (a *App) listen(c *rpc.Config) error {
	s := a.cfg.Worker.Socket
	if s.Path == "" {
		return nil
	}
	var env []string
	var err error
	if a.cfg.Worker.Graflow {
		o, err := a.cfg.Redis.clientOptions()
		if err != nil {
			return err
		}
		dial := func(ctx context.Context) (net.Conn, error) { return redis.Dial(ctx, o) }
		if a.away.relay, err = redisproxy.Listen(redisproxy.Config{Path: s.Path + relaySuffix, Mode: s.Mode, Dial: dial, Log: a.log}); err != nil {
			return &ConfigError{Err: fmt.Errorf("SIDECAR_WORKER_SOCKET: %w", err)}
		}
		if env, err = a.remoteEnv(); err != nil {
			return err
		}
	}
	a.away.hub, err = remote.Listen(remote.Config{Path: s.Path, Mode: s.Mode, Version: a.cfg.Version, Env: env, Log: a.log})
	if err != nil {
		a.away.close()
		return &ConfigError{Err: fmt.Errorf("SIDECAR_WORKER_SOCKET: %w", err)}
	}
	c.Remote = a.away.hub.Start
	c.Name = "worker at " + s.Path
	return nil
}

func (e *elsewhere) close() {
	if e.hub != nil {
		e.hub.Close()
	}
	if e.relay != nil {
		e.relay.Close()
	}
}

// relaySuffix makes the name of the socket that leads to Redis.
const relaySuffix = ".redis"

// remoteEnv is what Graflow's workers elsewhere are told: where the relay is,
// and nothing that would lead around it.
func (a *App) remoteEnv() ([]string, error) {
	const password = "" // the relay logs in for them
	p, err := a.cfg.Redis.place(password)
	if err != nil {
		return nil, err
	}
	if db := p.url.Query().Get("db"); p.url.Scheme == "unix" && db != "" {
		p.db = db
	}
	own, err := a.cfg.Redis.environment(a.cfg.KeyPrefix, password)
	if err != nil {
		return nil, err
	}
	harmless := []string{
		"REDIS_KEY_PREFIX", "REDIS_SOCKET_TIMEOUT", "REDIS_SOCKET_CONNECT_TIMEOUT",
		"REDIS_HEALTH_CHECK_INTERVAL", "REDIS_MAX_CONNECTIONS", "REDIS_RETRIES",
	}
	own = slices.DeleteFunc(own, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return !slices.Contains(harmless, name)
	})
	return append(own,
		"REDIS_URL=unix://{dir}/"+filepath.Base(a.cfg.Worker.Socket.Path)+relaySuffix+"?db="+p.db,
		"WORKER_ID="+a.cfg.WorkerID, "LOG_LEVEL="+a.cfg.Worker.LogLevel), nil
}

// host keeps the sockets open around the life of the pool.
func (a *App) host(pool func() error) error {
	serving, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() { errs[1] = a.away.hub.Run(serving) })
	if a.away.relay != nil {
		wg.Go(func() { errs[2] = a.away.relay.Run(serving) })
	}
	errs[0] = pool()
	stop()
	wg.Wait()
	return errors.Join(errs...)
}
