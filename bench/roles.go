package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// roleVariable makes this program one of the workers that are measured: its
// value is the number of tasks that it runs at once.
const roleVariable = "BENCH_WORKER"

// play is the Go worker: it does nothing with a record, but for one that asks it
// to sleep.
func play(role string) int {
	concurrency, err := strconv.Atoi(role)
	if err == nil {
		err = protocol.Serve(context.Background(), echo, protocol.WithConcurrency(concurrency))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench worker:", err)
		return 1
	}
	return 0
}

var slowMark = []byte(`"slow"`)

func echo(ctx context.Context, t *protocol.Task) (any, error) {
	if len(t.Record) < recordSize/2 && bytes.Contains(t.Record, slowMark) {
		if err := sleep(ctx, time.Minute); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
