package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"
	"github.com/graflow/graflow-sidecar/sidecar/internal/host/pid1"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

// Main is the program: it returns the exit status, when all that was logged is written.
func Main(args, environ []string) int {
	if pid1.Needed() {
		return beInit(args, environ)
	}
	host.KeepDescriptors()
	status := Execute(args[1:])
	host.Stderr().Close(host.FlushTimeout)
	return status
}

// beInit is for a container whose entrypoint this is: the first process looks
// after the others, and the second one is the sidecar.
func beInit(args, environ []string) int {
	host.KeepPrivate()
	status, err := pid1.Run(args, environ)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sidecar: "+err.Error())
		return exitInternal
	}
	return status
}

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
