package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/graflow/graflow-sidecar/examples/go-worker/tasks"
	pyworker "github.com/graflow/graflow-sidecar/examples/python-worker"
	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/cli/demo"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

func demoCommand() *cobra.Command {
	verbose, mode := false, string(config.ModeRPC)
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a few hundred tasks on a Redis of its own, and stop",
		Long: `Starts an embedded Redis and the example workers, dispatches groups of tasks as
Graflow's producer does, waits on their barriers and prints what happened. The
Go worker is this binary in another role; the Python one joins in where python3
is found. With --mode exec each task has a process: this binary in yet another
role, and a line of shell.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runDemo(config.Mode(mode), verbose) },
	}
	cmd.Flags().StringVar(&mode, "mode", mode, "rpc or exec")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show the sidecar's log")
	return cmd
}

func runDemo(mode config.Mode, verbose bool) error {
	if mode != config.ModeRPC && mode != config.ModeExec {
		return &config.UsageError{Err: fmt.Errorf("--mode is %q, and must be rpc or exec: supervised workers would need Graflow", mode)}
	}
	host.CatchBrokenPipe()
	host.UnblockStderr()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return failure{err}
	}
	level := slog.LevelWarn
	if verbose {
		level = slog.LevelDebug
	}
	cfg := app.DefaultConfig()
	cfg.WorkerID, cfg.Version, cfg.Mode = "demo", version.Number, mode
	cfg.Log = host.NewLog(config.LogText, level)
	cfg.Worker.Env = config.ChildEnv(os.Environ(), false, nil)
	defer host.AdoptOrphans(cfg.Log)()

	workers := []demo.Worker{goWorker(self)}
	if mode == config.ModeExec {
		workers = execWorkers(self)
	} else if python, err := exec.LookPath("python3"); err == nil {
		zip, cleanup, err := adapterFile()
		if err != nil {
			return failure{err}
		}
		defer cleanup()
		workers = append(workers, pythonWorker(python, zip))
	} else {
		fmt.Println("no python3 on PATH: the Python example sits this one out")
	}
	o := demo.Options{Config: cfg, Workers: workers, Out: os.Stdout}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		o.Bar = bar
	}
	if err := demo.Run(ctx, o); err != nil {
		return failure{err}
	}
	fmt.Println("everything has stopped, in order")
	return nil
}

func bar(total int, name string) demo.Bar {
	return progressbar.NewOptions(total,
		progressbar.OptionSetDescription(fmt.Sprintf("%-7s", name)),
		progressbar.OptionShowCount(), progressbar.OptionSetWidth(40),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Println() }),
		progressbar.OptionSetWriter(os.Stdout))
}

// text is what the workers count words of.
const text = `It was the best of times, it was the worst of times, it was the age of
wisdom, it was the age of foolishness, it was the epoch of belief, it was the epoch of
incredulity, it was the season of Light, it was the season of Darkness.`

func goWorker(self string) demo.Worker {
	return demo.Worker{
		Name: "go", Groups: 4, Size: 60,
		Setup: func(w *config.Worker) { w.Command = []string{self, exampleWorkerName} },
		Task: func(i int) (string, any) {
			if i%3 == 0 {
				return "words", map[string]any{"text": text, "top": 3}
			}
			from := 1_000_000 * (i + 1)
			return "primes", map[string]any{"from": from, "to": from + 200_000}
		},
	}
}

func pythonWorker(python string, zip adapter) demo.Worker {
	return demo.Worker{
		Name: "python", Groups: 2, Size: 60,
		Setup: func(w *config.Worker) {
			w.Command = []string{python, "-c", pyworker.Example}
			w.Env = append(slices.Clip(w.Env), "PYTHONPATH="+zip.path)
			w.Files = zip.files
		},
		Task: func(int) (string, any) { return "text", map[string]any{"text": text} },
	}
}

// exampleWorkerName is the role in which the demo starts this binary as its
// own worker.
const exampleWorkerName = "example-worker"

func exampleWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    exampleWorkerName,
		Short:  "Be the example worker of examples/go-worker (what the demo runs)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := protocol.Serve(cmd.Context(), tasks.Handler, protocol.WithInfo("go-example", version.Number)); err != nil {
				return failure{err}
			}
			return nil
		},
	}
}
