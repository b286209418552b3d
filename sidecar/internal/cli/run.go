package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"

	"github.com/spf13/cobra"

	pyworker "github.com/graflow/graflow-sidecar/examples/python-worker"
	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

func runCommand() *cobra.Command {
	loader := config.NewLoader()
	readyFD, parentFD := host.NoFD, host.NoFD
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG…]",
		Short: "Take tasks from Redis and run them in worker processes",
		Long: `Takes task records from Redis and passes them to worker processes over stdin
and stdout. The worker's command comes after --; with --graflow the sidecar
runs the adapter for Graflow's own tasks, which it carries. With --mode exec any
executable is a worker, started for each task; with --mode supervise the workers
speak to Redis themselves, and the sidecar only keeps them running. With --worker,
given several times, each kind of task has a worker of its own.

Every flag has an environment variable, and there are more of those: see
docs/configuration.md. SIGTERM and SIGINT finish what runs and stop; the
second one lets go at once. SIGTSTP claims nothing more until SIGCONT, SIGHUP
replaces the workers one by one, SIGQUIT says what is going on; see
docs/lifecycle.md.`,
		Example: `  sidecar run --graflow
  sidecar run --redis-host redis -- ./my-worker --fast
  sidecar run --mode exec -- jq .params
  sidecar run --worker 'etl.*=./etl --fast' --worker '*=graflow'
  sidecar run --mode supervise --replicas 2 -- python -m graflow.worker.main
  REDIS_URL=embedded sidecar run -- python3 worker.py`,
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := host.OpenReadyFD(readyFD)
			if err != nil {
				return err
			}
			defer report.Close()
			s, err := loader.Load(args)
			if err == nil {
				forgetOthers(cmd)
				err = serve(s, report, parentFD)
			}
			if err != nil {
				report.Fail(err)
			}
			return err
		},
	}
	loader.AddFlags(cmd.Flags())
	loader.AllowAbbreviations()
	cmd.Flags().IntVar(&readyFD, "ready-fd", host.NoFD,
		"write one JSON line {\"redis_url\":…,\"pid\":…} to this file descriptor, and close it, when the sidecar is ready; before that a line {\"warning\":…} for each warning of the log (16 at most), and {\"error\":…} where it ends; for the program that started it")
	cmd.Flags().IntVar(&parentFD, "parent-fd", host.NoFD,
		"read end of a pipe that the program which started the sidecar holds open: when it ends, killed or not, the sidecar stops as by SIGTERM")
	return cmd
}

// forgetOthers lets go of all other commands, each of which knows every setting: a
// third of a megabyte, and this one may run for months.
func forgetOthers(cmd *cobra.Command) {
	root := cmd.Root()
	for _, other := range root.Commands() {
		if other != cmd {
			root.RemoveCommand(other)
		}
	}
}

// serve runs a sidecar until it is told to stop, or cannot go on.
func serve(s config.Settings, report *host.ReadyFD, parentFD int) error {
	host.KeepPrivate()
	host.CatchBrokenPipe()
	host.UnblockStderr()
	host.TuneCollector()
	signals := host.CatchSignals()
	dog, release := host.GuardStop(s.App.ShutdownTimeout, explainInternal, exitInternal)
	defer release()
	starter, err := host.WatchParent(parentFD)
	if err != nil {
		return err
	}
	defer starter.Close()

	log := slog.New(report.Handler(host.NewLog(s.LogFormat, s.LogLevel).Handler()))
	slog.SetDefault(log)
	host.ReportDroppedLines(log)
	host.ProfileMemory(s.DebugAddr)
	if err := host.LimitMemory(); err != nil {
		log.Debug("no memory limit is known", "error", err)
	}
	stopProfiles, err := serveProfiles(s.DebugAddr, log)
	if err != nil {
		return failure{err}
	}
	defer stopProfiles()
	defer host.AdoptOrphans(log)()
	cleanup, err := adapt(&s)
	if err != nil {
		return failure{err}
	}
	defer cleanup()
	cfg := s.App
	cfg.Log, cfg.Version = log, version.Number
	reportProblems(s.TelemetryProblems, log)
	cfg.LogLinesDropped = host.Stderr().Dropped
	// A signal also ends a start that tries again and again, for up to a minute.
	ctx, forget := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer forget()
	a, err := app.Start(ctx, cfg)
	switch {
	case err != nil && ctx.Err() != nil:
		log.Info("stopped during the start", "error", err)
		return nil
	case err != nil:
		return failure{err}
	}
	go dog.Watch(nil, a.Stopping(), a.Done())
	log.Info("sidecar started", "version", version.Number, "worker_id", cfg.WorkerID, "redis", cfg.Redis.Address(),
		"key_prefix", cfg.KeyPrefix, "mode", string(cfg.Mode), "slots", cfg.Slots, "worker", workerName(cfg))
	defer host.NotifyServiceManager(reporter{a}, log)()
	handler := host.SignalHandler{
		Sidecar: a, Log: log, Budget: cfg.ShutdownTimeout, Signals: signals, Embedded: cfg.Redis.Embedded, ParentGone: starter.Gone, DumpTo: host.Stderr(),
		OnReady: func() {
			if err := report.Send(a.ConnectURL()); err != nil {
				log.Warn("readiness could not be reported to the starter", "error", err)
			}
		},
	}
	if err := handler.Run(); err != nil {
		return failure{err} // whatever it is, the command line was right
	}
	return nil
}

// reportProblems warns of OpenTelemetry's variables that cannot be used. They may be
// those of a whole cluster, and cost the traces or metrics, not the tasks.
func reportProblems(problems []config.TelemetryProblem, log *slog.Logger) {
	for _, p := range problems {
		log.Warn("opentelemetry variable cannot be used", "variable", p.Variable, "reason", p.Reason)
	}
}

// adapt tells the workers that are the adapter what runs it.
func adapt(s *config.Settings) (cleanup func(), err error) {
	if s.App.Worker.Socket.Path != "" {
		if s.App.Worker.Graflow {
			s.App.Worker.Concurrency = 1
		}
		return func() {}, nil // the host that connects has it
	}
	workers := s.Adapter()
	if len(workers) == 0 {
		return func() {}, nil
	}
	adapter, cleanup, err := adapterFile()
	if err != nil {
		return nil, err
	}
	for _, w := range workers {
		w.Command = pyworker.Command(s.Python, adapter.path)
		w.Files = adapter.files
		if s.Prefork {
			w.ForkServer = pyworker.ForkServerCommand(s.Python, adapter.path)
		}
		w.Concurrency = 1
		w.Name = adapterName(s.Python)
	}
	return cleanup, nil
}

// workerName is what runs the tasks, for the log.
func workerName(cfg config.Config) string {
	name := func(w config.Worker) string { return cmp.Or(w.Name, strings.Join(w.Command, " ")) }
	switch {
	case cfg.Worker.Socket.Path != "":
		return "at " + cfg.Worker.Socket.Path
	case len(cfg.Kinds) == 0:
		return name(cfg.Worker)
	}
	list := make([]string, len(cfg.Kinds))
	for i, k := range cfg.Kinds {
		list[i] = fmt.Sprintf("%s=%s (%d)", k.Pattern, name(k.Worker), k.Slots)
	}
	return strings.Join(list, "; ")
}

// adapterName is the adapter's command for people, and not the whole bootstrap.
func adapterName(python string) string { return python + " -m graflow_sidecar.graflow" }

// adapter is where children find the Python adapter that the binary carries.
type adapter struct {
	path  string
	files []*os.File // handed down as file descriptors 3 …
}

// adapterFile puts the adapter where Python can import it from: in memory,
// which needs no writable file system and leaves nothing behind, or else in a
// private temporary folder.
func adapterFile() (adapter, func(), error) {
	zip, err := pyworker.Zip()
	if err != nil {
		return adapter{}, nil, fmt.Errorf("the embedded Python adapter is broken: %w", err)
	}
	if f, err := host.MemoryFile("graflow_sidecar.zip", zip); err == nil {
		return adapter{path: "/proc/self/fd/3", files: []*os.File{f}}, func() { _ = f.Close() }, nil
	}
	dir, err := os.MkdirTemp("", "graflow-sidecar-")
	if err != nil {
		return adapter{}, nil, fmt.Errorf("no place for the Python adapter on %s: %w", runtime.GOOS, err)
	}
	cleanup := func() { _ = os.RemoveAll(dir) }
	path := dir + "/graflow_sidecar.zip"
	if err := os.WriteFile(path, zip, 0o600); err != nil {
		cleanup()
		return adapter{}, nil, fmt.Errorf("no place for the Python adapter: %w", err)
	}
	return adapter{path: path}, cleanup, nil
}

// reporter is a sidecar as a service manager is told of it.
type reporter struct{ *app.App }

// StatusLine is the line that systemctl status shows.
func (r reporter) StatusLine() string { return statusLine(r.Status()) }

func statusLine(s app.Status) string {
	text := fmt.Sprintf("%s: %d of %d tasks in flight, %d workers", s.State, s.InFlight, s.Capacity, s.Workers)
	if s.Waiting > 0 {
		text += fmt.Sprintf(", %d claimed ahead", s.Waiting)
	}
	if s.Unreported > 0 {
		text += fmt.Sprintf(", %d results not reported yet", s.Unreported)
	}
	if s.RedisLost {
		text += "; Redis is away"
	}
	if s.CrashLoop {
		text += "; the workers keep dying"
	}
	return text
}
