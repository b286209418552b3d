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
	failed := run(newRoot(), args)
	if failed == nil {
		return exitOK
	}
	explain(host.Stderr(), failed.error, failed.path)
	return exitStatus(failed.error)
}

// commandError is why a command has failed. path is the command as it is typed, such as
// "sidecar dead requeue".
type commandError struct {
	error

	path string
}

// run runs the command of a command line.
func run(root *cobra.Command, args []string) *commandError {
	root.SetArgs(args)
	used, err := root.ExecuteContextC(context.Background())
	if err == nil {
		return nil
	}
	return &commandError{proposeCommand(used, err), used.CommandPath()}
}

// newRoot returns the program's command with all others below it.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:                "sidecar",
		Short:              "Runs any executable as a worker of a Redis-backed workflow",
		SilenceUsage:       true,
		SilenceErrors:      true,
		DisableSuggestions: true, // see proposeCommand
		Version:            version.String(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(connectCommand(), installCommand(), healthcheckCommand(), manifestCommand())
	root.AddCommand(runCommand(), demoCommand(), workerCommand(), exampleWorkerCommand(), exampleTaskCommand(), versionCommand())
	root.AddCommand(Commands(Options{Version: version.Number, TestWorker: checkWorker})...)
	root.SetFlagErrorFunc(explainFlag)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(*cobra.Command, []string) { fmt.Println(version.String()) },
	}
}
