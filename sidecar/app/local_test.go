package app

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestTheDeathOfTheEmbeddedRedis: it cannot come back, and neither can what was in it. The
// sidecar says so and ends at once, whatever runs, and promises nothing.
func TestTheDeathOfTheEmbeddedRedis(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(*config.Config)
		deaf     bool // the workers do not end by themselves
		stopping bool // a stop has begun before
		most     time.Duration
	}{
		{name: "tasks that end soon", most: 2 * time.Second},
		{name: "tasks that do not end", deaf: true, most: 2 * time.Second},
		{name: "a stop is under way", deaf: true, stopping: true, most: 2 * time.Second},
		{name: "a process for each task", change: func(cfg *config.Config) {
			cfg.Mode, cfg.Worker.Command = config.ModeExec, []string{execCommand}
		}, deaf: true, most: 2 * time.Second},
		{name: "supervised workers", change: func(cfg *config.Config) {
			cfg.Mode, cfg.Worker.Command = config.ModeSupervise, []string{supervisedCommand}
		}, most: 2 * time.Second},
		{name: "a spool", change: func(cfg *config.Config) { cfg.StopRedisWait = time.Hour }, deaf: true, most: 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var log testlog.Buffer
				stubborn := ""
				if c.deaf {
					stubborn = "process"
				}
				o := startOrder(t, "", stubborn, func(cfg *config.Config) {
					cfg.SpoolDir, cfg.Log = folder, slog.New(slog.NewTextHandler(&log, nil))
					cfg.Redis.PingInterval = 100 * time.Millisecond
					if c.change != nil {
						c.change(cfg)
					}
				})
				time.Sleep(time.Second) // in mid-work
				if c.stopping {
					o.Stop()
					time.Sleep(time.Second)
				}
				o.redis.set(func() { o.redis.down, o.redis.away = true, true })
				time.Sleep(50 * time.Millisecond) // the process is waited for
				_, held, _ := o.redis.state()
				began := time.Now()
				cause := errors.New("redis-server ended unexpectedly: signal: killed")
				o.server.die(cause)
				err := o.Wait()
				if lost, is := errors.AsType[*LocalRedisError](err); !is || !errors.Is(lost, cause) {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(began); took > c.most {
					t.Errorf("took %v, want %v at most\n%s", took, c.most, log.String())
				}
				synctest.Wait()
				if n := o.workers.left(); n > 0 {
					t.Errorf("%d worker processes are left", n)
				}
				text := log.String()
				if n := strings.Count(text, `level=ERROR msg="embedded redis has ended: its tasks are lost"`); n != 1 {
					t.Errorf("the log says %d times that it has ended:\n%s", n, text)
				}
				if n := strings.Count(text, "lost with the embedded redis\""); n != len(held) {
					t.Errorf("%d tasks are told as lost, %d were held\n%s", n, len(held), text)
				}
				for _, untrue := range []string{"delivered again", "waits for redis", "did not come back", "go back to the queue", "lease will expire"} {
					if strings.Contains(text, untrue) {
						t.Errorf("the log says %q:\n%s", untrue, text)
					}
				}
				if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
					t.Errorf("spooled for a Redis that is gone: %v, %v", left, err)
				}
			})
		})
	}
}
