package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

// Execute runs the command of a command line, and returns the exit status.
func Execute(args []string) int {
	root := &cobra.Command{
		Use:           "sidecar",
		Short:         "Runs any executable as a worker of a Redis-backed workflow",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(connectCommand(), installCommand(), healthcheckCommand(), manifestCommand())
	root.AddCommand(runCommand(), demoCommand(), workerCommand(), exampleWorkerCommand(), exampleTaskCommand(), versionCommand())
	root.AddCommand(Commands(Options{Version: version.Number, TestWorker: checkWorker})...)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	status := exitStatus(err)
	if err != nil {
		explain(host.Stderr(), err)
	}
	return status
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(*cobra.Command, []string) { fmt.Println(version.String()) },
	}
}
