package redistest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/client"
	"github.com/redis/go-redis/v9"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// DefaultImage is the container's image unless REDISTEST_IMAGE names another one.
const DefaultImage = "redis:7-alpine"

// daemonBound is how long a Docker daemon may take to answer at all.
const daemonBound = 2 * time.Second

// startContainer starts a Redis in a container and returns its address once it has
// answered a PING. The error names the step that failed.
func startContainer(ctx context.Context) (string, error) {
	if err := daemonAnswers(ctx); err != nil {
		return "", fmt.Errorf("no Docker daemon: %w", err)
	}
	// Ryuk is a further image that would have to be pulled; reapAtExit does its
	// work. A daemon that was started by hand announces a bridge address that
	// may not be reachable, while published ports are reachable on loopback.
	setDefault("TESTCONTAINERS_RYUK_DISABLED", "true")
	if localDaemon() {
		setDefault("TESTCONTAINERS_HOST_OVERRIDE", redisHost)
	}
	log.SetDefault(log.NewNoopLogger()) // the default logs the daemon in every test run
	image := cmp.Or(os.Getenv("REDISTEST_IMAGE"), DefaultImage)
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithLogger(log.NewNoopLogger()),
		testcontainers.WithExposedPorts("6379/tcp"),
		testcontainers.WithCmd("redis-server", "--save", "", "--appendonly", "no", "--protected-mode", "no"),
	)
	if c != nil {
		if rerr := reapAtExit(c.GetContainerID()); rerr != nil {
			return "", errors.Join(rerr, c.Terminate(context.WithoutCancel(ctx)))
		}
	}
	if err != nil {
		return "", fmt.Errorf("container from %s: %w", image, err)
	}
	addr, err := c.PortEndpoint(ctx, "6379/tcp", "")
	if err != nil {
		return "", fmt.Errorf("port of the container: %w", err)
	}
	if err := waitPing(ctx, addr); err != nil {
		return "", fmt.Errorf("the container at %s does not answer: %w", addr, err)
	}
	return addr, nil
}

const redisHost = "127.0.0.1"

func setDefault(name, value string) {
	if os.Getenv(name) == "" {
		_ = os.Setenv(name, value) // fails for malformed names only
	}
}

func localDaemon() bool {
	host := os.Getenv("DOCKER_HOST")
	return host == "" || strings.HasPrefix(host, "unix://")
}

// daemonAnswers asks the Docker daemon at the local socket, before testcontainers
// tries several places and waits long for each. It only dials a daemon elsewhere
// (DOCKER_HOST=tcp://…).
func daemonAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, daemonBound)
	defer cancel()
	network, address := "unix", "/var/run/docker.sock"
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		scheme, rest, ok := strings.Cut(host, "://")
		if !ok {
			return fmt.Errorf("DOCKER_HOST=%q is no URL", host)
		}
		network, address = scheme, rest
	}
	var d net.Dialer
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, address)
	}
	if network != "unix" {
		conn, err := dial(ctx, "", "")
		if err != nil {
			return err
		}
		return conn.Close()
	}
	hc := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := hc.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("its ping says %s", resp.Status)
	}
	return nil
}

func waitPing(ctx context.Context, addr string) error {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DialTimeout: daemonBound})
	defer c.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// reapEnv is the variable that turns a further process of the test binary into a
// reaper: it waits for the end of its stdin and then removes the container that
// the variable names. Only the test process holds the write end of that pipe, so
// the container is removed however the test process ends.
const reapEnv = "REDISTEST_REAP_CONTAINER"

func init() {
	if id := os.Getenv(reapEnv); id != "" {
		_, _ = io.Copy(io.Discard, os.Stdin)
		if err := removeContainer(id); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
}

// reapPipe is the write end of the reaper's stdin. It closes when the test process
// ends, which is the signal for the reaper, so no code closes it. It is a variable
// because the garbage collector closes files without a reference.
var reapPipe io.WriteCloser //nolint:unused // the reference keeps the file open

func reapAtExit(id string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), reapEnv+"="+id)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a Ctrl-C must not end the reaper
	if reapPipe, err = cmd.StdinPipe(); err != nil {
		return err
	}
	return cmd.Start()
}

func removeContainer(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), containerBound)
	defer cancel()
	c, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	return err
}
