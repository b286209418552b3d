package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/unixsocket"
)

// HostConfig is the configuration of a Host. Every field except Dir, Env and Files is
// required.
type HostConfig struct {
	Socket  string
	Command []string
	Name    string // the worker's name in messages
	Dir     string
	Env     []string   // complete except for the variables of the sidecar
	Files   []*os.File // inherited as file descriptors 3, 4 …

	Label   string // the host's name in the log
	Version string // of the binary, for the log

	StartRetries int            // of a command that was never started
	KillGrace    time.Duration  // between the steps that end a child
	Retry        backoff.Policy // pause between attempts to reach the sidecar

	Start local.Start
	Log   *slog.Logger
}

// Host is the side of the worker's container: it connects to the socket of a sidecar
// and runs the children that the sidecar starts.
type Host struct {
	cfg     HostConfig
	hangups chan struct{} // one token: a SIGHUP to report to the sidecar
	started bool          // a child was started in any session
	tries   local.Tries   // failed starts before that
	missed  int           // number of failed starts
}

// NewHost prepares a Host; it does not connect before Run.
func NewHost(cfg HostConfig) *Host {
	cfg.Socket = filepath.Clean(cfg.Socket)
	return &Host{cfg: cfg, hangups: make(chan struct{}, 1), tries: local.Tries{Limit: cfg.StartRetries}}
}

// Hangup reports to the sidecar that SIGHUP has reached this host, since it may have
// ended children too. It returns at once and may be called concurrently with Run.
func (h *Host) Hangup() {
	select {
	case h.hangups <- struct{}{}:
	default:
	}
}

// RefusedError is the error of a host that the sidecar refuses, with the reason.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the sidecar refuses this worker: " + e.Reason }

// Run serves one sidecar after another until soft ends. A lost connection ends the
// children, and Run connects again. At the end of soft it tells the sidecar, and the
// children finish their tasks until hard ends. It returns nil after a stop, a
// *[local.StartError] if the command cannot be started at all, and a *[RefusedError].
// It may be called once.
func (h *Host) Run(soft, hard context.Context) error {
	pause := backoff.New(h.cfg.Retry)
	for soft.Err() == nil {
		conn, err := dial(soft, h.cfg.Socket)
		if err != nil {
			if pause.Failures() == 0 {
				h.cfg.Log.Info("waiting for the sidecar", "socket", h.cfg.Socket, "reason", reason(err))
			}
			pause.Sleep(soft)
			continue
		}
		began := time.Now()
		err = h.serve(soft, hard, conn)
		var refused *RefusedError
		var start *local.StartError
		switch {
		case errors.As(err, &refused), errors.As(err, &start):
			return err
		case soft.Err() != nil:
			return nil
		case err != nil:
			h.cfg.Log.Warn("sidecar is lost, connecting again", "reason", reason(err))
		}
		if time.Since(began) > h.cfg.Retry.Max {
			pause.Reset()
		}
		pause.Sleep(soft)
	}
	return nil
}

func dial(ctx context.Context, path string) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// reason returns why a connection failed, without the address, which the log line has.
func reason(err error) string {
	switch {
	case errors.Is(err, io.EOF):
		return "it closed the connection"
	case errors.Is(err, os.ErrNotExist):
		return "its socket is not there yet"
	case errors.Is(err, os.ErrPermission):
		return fmt.Sprintf("user %d may not use its socket: give both containers a group (fsGroup), or set SIDECAR_WORKER_SOCKET_MODE", os.Getuid())
	}
	return unixsocket.Cause(err).Error()
}

// handshake introduces the host and reads the sidecar's answer.
func (h *Host) handshake(conn net.Conn) error {
	if err := say(conn, message{Type: typeHello, V: Version, Name: h.cfg.Label, Version: h.cfg.Version}); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
	m, err := first(conn)
	_ = conn.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		return err
	case m.Type == typeRefused:
		return &RefusedError{m.Reason}
	case m.Type != typeWelcome:
		return fmt.Errorf("it answered %q", m.Type)
	case m.V > Version:
		return &RefusedError{fmt.Sprintf("it speaks version %d of the socket's messages, and this binary speaks 1 to %d", m.V, Version)}
	}
	h.cfg.Log.Info("connected to the sidecar", "version", m.Version, "socket", h.cfg.Socket)
	return nil
}

// serve serves one connection, and returns when every child of it has ended.
func (h *Host) serve(soft, hard context.Context, conn *net.UnixConn) error {
	defer conn.Close()
	// A stop does not wait for the answer of a stuck sidecar.
	unhook := context.AfterFunc(soft, func() { _ = conn.SetReadDeadline(time.Now()) })
	err := h.handshake(conn)
	if !unhook() {
		return nil // stopping before anything began
	}
	if err != nil {
		return err
	}
	s := newSession(h, conn)
	ended := make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { ended <- listen(conn, s.take) })

	for serving := true; serving; {
		select {
		case <-h.hangups:
			s.say(message{Type: typeHangup})
		case err = <-ended:
			serving = false
		case err = <-s.fatal:
			serving = false
		case <-soft.Done():
			serving = false
			h.cfg.Log.Info("draining: no new tasks, the running ones finish")
			s.drain()
			select {
			case err = <-ended: // the sidecar stops too
			case <-s.empty():
			case <-hard.Done():
				h.cfg.Log.Warn("deadline reached: running tasks go back to the queue")
			}
		}
	}
	s.end(err == nil)
	_ = conn.Close()
	reader.Wait()
	s.children.Wait()
	if err != nil && s.saidBye() && !fatal(err) {
		h.cfg.Log.Info("sidecar has stopped, waiting for another one")
		return nil
	}
	return err
}

func fatal(err error) bool {
	_, is := errors.AsType[*local.StartError](err)
	return is
}

// given returns the variables that a child gets from the sidecar: only names of a fixed
// list, and with the folder of the socket inserted, which the sidecar cannot know. Any
// process that can put a socket into the shared folder could otherwise make the host
// run any code, through LD_PRELOAD.
func (h *Host) given(env []string) []string {
	out := make([]string, 0, len(env))
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if name == "WORKER_ID" || name == "LOG_LEVEL" || strings.HasPrefix(name, "REDIS_") {
			out = append(out, name+"="+strings.ReplaceAll(value, "{dir}", filepath.Dir(h.cfg.Socket)))
		}
	}
	return out
}

// lastLines bounds the lines of a child's stderr that are sent to the sidecar.
func lastLines(text string) string {
	const most = 16 << 10
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
