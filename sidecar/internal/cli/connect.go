package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"

	"github.com/spf13/cobra"

	pyworker "github.com/graflow/graflow-sidecar/examples/python-worker"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/remote"
)

func connectCommand() *cobra.Command {
	loader := config.NewLoader()
	cmd := &cobra.Command{
		Use:   "connect [flags] -- COMMAND [ARG…]",
		Short: "Run workers for a sidecar in another container",
		Long: `Connects to the socket of a sidecar that runs in another container of the same
pod (SIDECAR_WORKER_SOCKET there), and runs the worker's command here as often as
that sidecar asks for it, with its stdin and stdout carried over the socket. This
container needs no Redis and holds no credentials; with --graflow the sidecar
passes on what Graflow's engine says to Redis. See docs/socket.md.

SIGTERM and SIGINT have the sidecar finish what runs here and send nothing more;
the second one lets go at once.`,
		Example: `  sidecar connect --socket /run/sidecar/worker.sock -- ./my-worker --fast
  sidecar connect --socket /run/sidecar/worker.sock --graflow`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loader.LoadConnect(args)
			if err != nil {
				return err
			}
			return connect(c)
		},
	}
	loader.AddConnectFlags(cmd.Flags())
	return cmd
}

// connect runs workers until it is told to stop, or cannot go on.
func connect(c config.Connect) error {
	if err := local.CheckDir(c.Dir); err != nil {
		return &config.Error{Err: err}
	}
	host.CatchBrokenPipe()
	host.UnblockStderr()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP) // to the end of the process, see host.CatchSignals
	_, release := host.GuardStop(c.ShutdownTimeout, explainInternal, exitInternal)
	defer release()
	log := host.NewLog(c.LogFormat, c.LogLevel)
	slog.SetDefault(log)
	host.ReportDroppedLines(log)
	defer host.AdoptOrphans(log)()

	label, _ := os.Hostname() // a label for the sidecar's log; in a pod the container's
	host := remote.HostConfig{
		Socket: c.Socket, Command: c.Command, Name: strings.Join(c.Command, " "), Dir: c.Dir, Env: c.Env,
		Label: label, Version: version.Number, StartRetries: c.StartRetries, KillGrace: c.KillGrace,
		Retry: backoff.Policy{Min: 100 * time.Millisecond, Max: 2 * time.Second}, Log: log,
	}
	if c.Graflow {
		adapter, cleanup, err := adapterFile()
		if err != nil {
			return failure{err}
		}
		defer cleanup()
		host.Command, host.Name, host.Files = pyworker.Command(c.Python, adapter.path), adapterName(c.Python), adapter.files
	}
	spawner := local.NewSpawner()
	defer spawner.Stop()
	host.Start = spawner.Start

	soft, drain := context.WithCancel(context.Background())
	defer drain()
	hard, letGo := context.WithCancel(context.Background())
	defer letGo()
	done := make(chan error, 1)
	log.Info("worker host started", "version", version.Number, "socket", c.Socket, "worker", host.Name)
	workers := remote.NewHost(host)
	go func() { done <- workers.Run(soft, hard) }()
	var over <-chan time.Time
	for {
		select {
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				workers.Hangup()
				log.Info("replacing the workers is up to the sidecar", "signal", sig.String())
			case soft.Err() != nil:
				letGo()
			default:
				drain()
				timer := time.NewTimer(drainTime(c.ShutdownTimeout))
				defer timer.Stop()
				over = timer.C
			}
		case <-over:
			letGo()
		case err := <-done:
			if err == nil {
				log.Info("worker host stopped")
				return nil
			}
			return failure{err}
		}
	}
}

// drainTime is what running tasks have of a stop's budget: the rest is for
// killing what does not end, and for the sidecar to hear of it.
func drainTime(budget time.Duration) time.Duration { return budget - min(2*time.Second, budget/2) }
