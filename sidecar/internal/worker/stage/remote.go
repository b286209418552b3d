package stage

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

// remoteWorkers are the sockets for workers in other containers, if they are
// configured.
type remoteWorkers struct {
	hub   *remote.Hub
	proxy *redisproxy.Proxy // forwards Graflow's workers to Redis
}

// listen makes the sockets, if they are configured, and has the pool get its children
// there.
func (s *Stage) listen(c *rpc.Config) error {
	all := s.o.Config
	w := all.Worker.Socket
	if w.Path == "" {
		return nil
	}
	var env []string
	var err error
	if all.Worker.Graflow {
		o, err := redis.OptionsOf(all.Redis)
		if err != nil {
			return err
		}
		dial := func(ctx context.Context) (net.Conn, error) { return redis.Dial(ctx, o) }
		if s.remote.proxy, err = redisproxy.Listen(redisproxy.Config{Path: w.Path + proxySuffix, Mode: w.Mode, Dial: dial, Log: s.log}); err != nil {
			return &config.Error{Err: fmt.Errorf("SIDECAR_WORKER_SOCKET: %w", err)}
		}
		if env, err = remoteEnvironment(all); err != nil {
			return err
		}
	}
	s.remote.hub, err = remote.Listen(remote.Config{Path: w.Path, Mode: w.Mode, Version: all.Version, Env: env, Log: s.log})
	if err != nil {
		if s.remote.proxy != nil {
			s.remote.proxy.Close()
		}
		return &config.Error{Err: fmt.Errorf("SIDECAR_WORKER_SOCKET: %w", err)}
	}
	c.Remote = s.remote.hub.Start
	c.Name = "worker at " + w.Path
	return nil
}

// serve keeps the sockets open while the pool runs.
func (r *remoteWorkers) serve(pool func() error) error {
	serving, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() { errs[1] = r.hub.Run(serving) })
	if r.proxy != nil {
		wg.Go(func() { errs[2] = r.proxy.Run(serving) })
	}
	errs[0] = pool()
	stop()
	wg.Wait()
	return errors.Join(errs...)
}

// proxySuffix is the suffix of the name of the socket that leads to Redis.
const proxySuffix = ".redis"

// remoteEnvironment returns the environment of Graflow's workers in other containers:
// the address of the proxy, and no other address of Redis.
func remoteEnvironment(c *config.Config) ([]string, error) {
	const password = "" // the proxy authenticates
	p, err := worker.RedisAddressOf(c.Redis, password)
	if err != nil {
		return nil, err
	}
	if db := p.URL.Query().Get("db"); p.URL.Scheme == "unix" && db != "" {
		p.DB = db
	}
	own, err := worker.Environment(c.Redis, c.KeyPrefix, password)
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
		"REDIS_URL=unix://{dir}/"+filepath.Base(c.Worker.Socket.Path)+proxySuffix+"?db="+p.DB,
		"WORKER_ID="+c.WorkerID, "LOG_LEVEL="+c.Worker.LogLevel), nil
}
