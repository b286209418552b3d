package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisServer is a redis-server of our own: without persistence, like the one
// that the figures in the issue were measured on.
type redisServer struct {
	cmd    *exec.Cmd
	dir    string
	port   int
	client *redis.Client
}

func startRedis(ctx context.Context) (*redisServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-redis-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1",
		"--save", "", "--appendonly", "no", "--dir", dir)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("redis-server: %w (make redis says how to get one)", err)
	}
	s := &redisServer{cmd: cmd, dir: dir, port: port}
	s.client = redis.NewClient(&redis.Options{Addr: s.addr(), PoolSize: 8, ReadTimeout: 30 * time.Second})
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := s.client.Ping(ctx).Err()
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) || sleep(ctx, 10*time.Millisecond) != nil {
			s.stop()
			return nil, fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

func (s *redisServer) addr() string { return "127.0.0.1:" + strconv.Itoa(s.port) }
func (s *redisServer) url() string  { return "redis://" + s.addr() + "/0" }

func (s *redisServer) empty(ctx context.Context) error { return s.client.FlushAll(ctx).Err() }

// emptyOf deletes what is under a prefix, and leaves other sidecars alone.
func (s *redisServer) emptyOf(ctx context.Context, prefix string) error {
	keys := s.client.Scan(ctx, 0, prefix+":*", 1000).Iterator()
	for keys.Next(ctx) {
		if err := s.client.Unlink(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

func (s *redisServer) stop() {
	_ = s.client.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// commands is how many commands clients have sent: those that the sidecar sends,
// and not what its scripts do inside of Redis.
func (s *redisServer) commands(ctx context.Context) (int64, error) {
	text, err := s.client.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, name := range []string{"evalsha", "eval", "blmove", "ping", "hello", "client|unblock"} {
		calls, _, _ := strings.Cut(strings.TrimPrefix(infoField(text, "cmdstat_"+name), "calls="), ",")
		n, _ := strconv.ParseInt(calls, 10, 64)
		sum += n
	}
	return sum, nil
}

// cpu is what the server has used.
func (s *redisServer) cpu() time.Duration {
	f := statFields(s.cmd.Process.Pid)
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * (time.Second / 100)
}

func infoField(text, name string) string {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
