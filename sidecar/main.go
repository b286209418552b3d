// Command sidecar stands between Redis and the code that does the work: it
// claims task records, runs them in worker processes over stdin and stdout,
// reports what became of them, and stops in the right order.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host/pid1"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

func main() {
	if pid1.Needed() {
		os.Exit(beInit())
	}
	keepDescriptors()
	status := execute(os.Args[1:])
	stderr().Close(flushTime)
	os.Exit(status)
}

// beInit is for a container whose entrypoint this is: the first process looks
// after the others, and the second one is the sidecar.
func beInit() int {
	keepPrivate()
	status, err := pid1.Run(os.Args, os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "sidecar: "+err.Error())
		return exitInternal
	}
	return status
}

func execute(args []string) int {
	root := &cobra.Command{
		Use:           "sidecar",
		Short:         "Runs any executable as a worker of a Redis-backed workflow",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(connectCommand(), installCommand(), healthcheckCommand(), manifestCommand())
	root.AddCommand(runCommand(), demoCommand(), workerCommand(), exampleWorkerCommand(), exampleTaskCommand(), versionCommand())
	root.AddCommand(seenAndDone()...)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	status := exitStatus(err)
	if err != nil {
		explain(stderr(), err)
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
