package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redisproxy"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/remote"
)

// elsewhere is what there is for workers in other containers: nothing, unless
// that is wanted.
type elsewhere struct {
	hub   *remote.Hub
	relay *redisproxy.Relay // to Redis, for Graflow's workers
}

// WorkersExpected reports whether there is something wrong where no worker is
// up: false where they come by themselves, and after the sidecar.
func (a *App) WorkersExpected() bool { return a.cfg.Worker.Socket.Path == "" }

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
		o, err := redis.OptionsOf(a.cfg.Redis)
		if err != nil {
			return err
		}
		dial := func(ctx context.Context) (net.Conn, error) { return redis.Dial(ctx, o) }
		if a.away.relay, err = redisproxy.Listen(redisproxy.Config{Path: s.Path + relaySuffix, Mode: s.Mode, Dial: dial, Log: a.log}); err != nil {
			return &config.Error{Err: fmt.Errorf("SIDECAR_WORKER_SOCKET: %w", err)}
		}
		if env, err = a.remoteEnv(); err != nil {
			return err
		}
	}
	a.away.hub, err = remote.Listen(remote.Config{Path: s.Path, Mode: s.Mode, Version: a.cfg.Version, Env: env, Log: a.log})
	if err != nil {
		a.away.close()
		return &config.Error{Err: fmt.Errorf("SIDECAR_WORKER_SOCKET: %w", err)}
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
	p, err := worker.PlaceOf(a.cfg.Redis, password)
	if err != nil {
		return nil, err
	}
	if db := p.URL.Query().Get("db"); p.URL.Scheme == "unix" && db != "" {
		p.DB = db
	}
	own, err := worker.Environment(a.cfg.Redis, a.cfg.KeyPrefix, password)
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
		"REDIS_URL=unix://{dir}/"+filepath.Base(a.cfg.Worker.Socket.Path)+relaySuffix+"?db="+p.DB,
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
