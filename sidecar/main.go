// Command sidecar stands between Redis and the code that does the work: it
// claims task records, runs them in worker processes over stdin and stdout,
// reports what became of them, and stops in the right order.
package main

import (
	"fmt"
	"os"

	"github.com/graflow/graflow-sidecar/sidecar/internal/cli"
	"github.com/graflow/graflow-sidecar/sidecar/internal/host"
	"github.com/graflow/graflow-sidecar/sidecar/internal/host/pid1"
)

func main() {
	if pid1.Needed() {
		os.Exit(beInit())
	}
	host.KeepDescriptors()
	status := cli.Execute(os.Args[1:])
	host.Stderr().Close(host.FlushTimeout)
	os.Exit(status)
}

// beInit is for a container whose entrypoint this is: the first process looks
// after the others, and the second one is the sidecar.
func beInit() int {
	host.KeepPrivate()
	status, err := pid1.Run(os.Args, os.Environ())
	if err != nil {
		fmt.Fprintln(os.Stderr, "sidecar: "+err.Error())
		return cli.ExitInternal
	}
	return status
}
