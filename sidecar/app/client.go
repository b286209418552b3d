package app

import (
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// OpenStore returns a client of the Redis that the configuration names, for
// commands that look and give orders; nothing else of the configuration is used.
// It does not connect. The error is a *config.Error.
func OpenStore(cfg config.Config) (*redis.Store, error) {
	o, err := redis.OptionsOf(cfg.Redis)
	if err != nil {
		return nil, err
	}
	o.PoolSize, o.MinIdleConns, o.ClientName = 4, 0, "graflow-sidecar-command"
	return (&App{cfg: cfg}).open(o)
}
