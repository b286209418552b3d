package link

import (
	"log/slog"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// NewMonitor returns the health monitor of a Redis. Its Ping is not set.
func NewMonitor(cfg config.Redis, log *slog.Logger) *health.Monitor {
	m := health.New()
	m.Reached, m.Name, m.Log = redis.Answered, redis.ClassName, log
	m.Interval, m.Timeout, m.Pause = cfg.PingInterval, time.Second, redis.RetryPause(cfg)
	m.IdleInterval = cfg.HealthCheckInterval
	return m
}
