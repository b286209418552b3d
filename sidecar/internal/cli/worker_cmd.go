package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/protocol/conformance"
	"github.com/graflow/graflow-sidecar/sidecar/config"
)

func workerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Help for authors of workers",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return &config.UsageError{Err: fmt.Errorf("sidecar worker needs a command: test")}
		},
	}
	cmd.AddCommand(workerTestCommand())
	return cmd
}

// recordFlags are the flags for records, with where each one goes.
var recordFlags = []struct {
	name, usage string
	field       func(*conformance.Records) *json.RawMessage
}{
	{"record", "a `record` of a task that succeeds within a second", func(r *conformance.Records) *json.RawMessage { return &r.Quick }},
	{"slow-record", "a `record` of a task that takes two seconds or more", func(r *conformance.Records) *json.RawMessage { return &r.Slow }},
	{"failing-record", "a `record` of a task that fails", func(r *conformance.Records) *json.RawMessage { return &r.Failing }},
	{"retryable-record", "a `record` of a task that fails and asks for another try", func(r *conformance.Records) *json.RawMessage { return &r.Retryable }},
	{"large-record", "a `record` of a task whose value is longer than 4096 bytes", func(r *conformance.Records) *json.RawMessage { return &r.Large }},
	{"exact-record", "a `record` of a task whose value is NaN or an integer beyond 2^53", func(r *conformance.Records) *json.RawMessage { return &r.Exact }},
}

func workerTestCommand() *cobra.Command {
	var w conformance.Worker
	verbose := false
	given := make([]string, len(recordFlags))
	cmd := &cobra.Command{
		Use:   "test [flags] -- COMMAND [ARG…]",
		Short: "Test a worker of any language against the rules of the protocol",
		Long: `Starts a worker as the sidecar would, plays the sidecar on its stdin and stdout,
and prints for each rule of protocol/PROTOCOL.md that can be seen from outside
whether it keeps it. No Redis is needed. It takes some seconds.

Every worker can be tested, since it must answer every record, also one that it
does not know. Some rules need a task that takes a while, or one that fails: give
records for these, as JSON or as files that hold it. What cannot be checked
without one is listed as not checked, with what it needs.

The exit status is 0 if no check failed, 70 if one did.`,
		Example: `  sidecar worker test -- node worker.mjs
  sidecar worker test --slow-record '{"task_id":"wait_1","params":{"seconds":2}}' -- ./worker`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 0 || len(args) == 0 {
				return &config.UsageError{Err: fmt.Errorf("the worker's command comes after --, as in: sidecar worker test -- ./worker")}
			}
			w.Command = args
			if w.StartTimeout <= 0 || w.Patience <= 0 {
				return &config.UsageError{Err: fmt.Errorf("--start-timeout and --patience must be above 0")}
			}
			for i, flag := range recordFlags {
				record, err := recordText(given[i])
				if err != nil {
					return &config.UsageError{Err: fmt.Errorf("--%s: %w", flag.name, err)}
				}
				*flag.field(&w.Records) = record
			}
			if verbose {
				w.Log = os.Stderr
			}
			return testWorker(w, os.Stdout)
		},
	}
	flags := cmd.Flags()
	for i, flag := range recordFlags {
		flags.StringVar(&given[i], flag.name, "", flag.usage)
	}
	flags.DurationVar(&w.StartTimeout, "start-timeout", 10*time.Second, "how long the worker may take to answer initialize")
	flags.DurationVar(&w.Patience, "patience", 10*time.Second, "how long any other answer may take")
	flags.BoolVarP(&verbose, "verbose", "v", false, "show every message on stderr")
	return cmd
}

// recordText is a record that is given as JSON or as a file that holds it; nil
// for none.
func recordText(given string) (json.RawMessage, error) {
	text := []byte(given)
	if given == "" {
		return nil, nil
	}
	if !strings.HasPrefix(strings.TrimSpace(given), "{") {
		var err error
		if text, err = os.ReadFile(given); err != nil {
			return nil, err
		}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, fmt.Errorf("a record is a JSON object: %w", err)
	}
	return bytes.TrimSpace(text), nil
}

// testWorker prints what the kit says of a worker, and fails if a check did.
func testWorker(w conformance.Worker, out io.Writer) error {
	host.CatchBrokenPipe()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	report, err := w.Check(ctx)
	if err != nil {
		return failure{err}
	}
	report.Print(out)
	if n := report.Count(conformance.Failed); n > 0 {
		return failure{fmt.Errorf("%d of %d checks failed", n, n+report.Count(conformance.Passed))}
	}
	return nil
}

// checkWorker is sidecar worker test for the doctor.
func checkWorker(ctx context.Context, command []string) (passed int, failed []string, err error) {
	w := conformance.Worker{Command: command, StartTimeout: 30 * time.Second, Patience: 10 * time.Second}
	report, err := w.Check(ctx)
	if err != nil {
		return 0, nil, err
	}
	for _, r := range report.Results {
		if r.Status == conformance.Failed {
			failed = append(failed, r.Check+": "+r.Seen)
		}
	}
	return report.Count(conformance.Passed), failed, nil
}
