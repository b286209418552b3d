package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/examples/go-worker/tasks"
	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/cli/demo"
)

// execWorkers are the demo's in mode exec: this binary in the role of a program
// that does one task, and a line of shell.
func execWorkers(self string) []demo.Worker {
	one := goWorker(self)
	one.Setup = func(w *config.Worker) { w.Command = []string{self, exampleTaskName} }
	workers := []demo.Worker{one}
	if _, err := exec.LookPath("sh"); err != nil {
		fmt.Println("no sh on PATH: the shell script sits this one out")
		return workers
	}
	return append(workers, demo.Worker{
		Name: "sh", Groups: 2, Size: 60,
		Setup: func(w *config.Worker) {
			w.Command = []string{"sh", "-c", `echo "{\"task\": \"$SIDECAR_TASK_ID\", \"words\": $(wc -w)}"`}
		},
		Task: func(int) (string, any) { return "text", map[string]any{"text": text} },
	})
}

// exampleTaskName is the role in which the demo starts this binary for one task.
const exampleTaskName = "example-task"

func exampleTaskCommand() *cobra.Command {
	return &cobra.Command{
		Use:    exampleTaskName,
		Short:  "Do one task of examples/go-worker in mode exec (what the demo runs)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			if err := doTask(ctx, os.Stdin, os.Stdout); err != nil {
				return failure{err}
			}
			return nil
		},
	}
}

// doTask is all that a worker of mode exec has to be.
func doTask(ctx context.Context, in io.Reader, out io.Writer) error {
	record, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	value, err := tasks.Handler(ctx, &protocol.Task{Record: record})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(value)
}
