package host

import (
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Reporter is what a service manager is told about.
type Reporter interface {
	// StatusLine is the line that systemctl status shows.
	StatusLine() string
	Stalled() string
	Ready() <-chan struct{}
	Stopping() <-chan struct{}
}

// manager tells the service manager that started us how we are: systemd, or
// whatever else there is at the other end of NOTIFY_SOCKET.
type manager struct {
	app      Reporter
	log      *slog.Logger
	say      func(state string) error
	watchdog time.Duration // that it kills us after; 0 is none
}

// statusEvery is how often the status line is looked at; it is said if it
// changed.
const statusEvery = time.Second

// NotifyServiceManager does so until the function that it returns is called. It
// does nothing where no service manager listens.
func NotifyServiceManager(a Reporter, log *slog.Logger) (stop func()) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return func() {}
	}
	if err := notify(socket, "STATUS=starting"); err != nil {
		log.Warn("service manager at NOTIFY_SOCKET cannot be reached", "error", err)
		return func() {}
	}
	m := manager{app: a, log: log, say: func(state string) error { return notify(socket, state) }}
	var err error
	if m.watchdog, err = daemon.SdWatchdogEnabled(false); err != nil {
		log.Warn("service manager watchdog is not served", "error", err)
	}
	done := make(chan struct{})
	over := make(chan struct{})
	go func() {
		defer close(over)
		m.run(done)
	}()
	return func() {
		close(done)
		local.Within(over, 2*notifyTimeout) // it takes locks, which may be why we stop
	}
}

// notifyTimeout bounds one message: a service manager whose queue is full must not
// hold up the end of a stop.
const notifyTimeout = time.Second

// notify sends one message to a service manager's socket, as sd_notify does.
func notify(socket, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

func (m *manager) run(done <-chan struct{}) {
	every := statusEvery
	if m.watchdog > 0 {
		every = min(every, m.watchdog/3)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	ready, stopping := m.app.Ready(), m.app.Stopping()
	var status, stuck string
	for {
		// One message for what happens at one time: it is read as one.
		state := ""
		select {
		case <-done:
			return
		case <-ready:
			ready = nil
			state = "READY=1\n"
		case <-stopping:
			ready, stopping = nil, nil
			state = "STOPPING=1\n"
		case <-ticker.C:
		}
		if now := m.app.StatusLine(); now != status {
			status = now
			state += "STATUS=" + now + "\n"
		}
		if m.watchdog > 0 {
			was := stuck
			if stuck = m.app.Stalled(); stuck == "" {
				state += "WATCHDOG=1\n"
			} else if was == "" {
				m.log.Error("sidecar is stuck: the service manager watchdog is not fed", "reason", stuck)
			}
		}
		if state == "" {
			continue
		}
		if err := m.say(state); err != nil {
			m.log.Debug("service manager was not notified", "error", err)
		}
	}
}
