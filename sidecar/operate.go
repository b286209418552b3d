package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/protocol/conformance"
	"github.com/graflow/graflow-sidecar/sidecar/internal/cli"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

// seenAndDone are the commands of package cli: what people ask and say of
// sidecars that run.
func seenAndDone() []*cobra.Command {
	return cli.Commands(cli.Options{Version: version.Number, TestWorker: checkWorker})
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
