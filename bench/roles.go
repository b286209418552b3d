package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// roleVariable makes this program one of the workers that are measured: its
// value is the number of tasks that it runs at once.
const roleVariable = "BENCH_WORKER"

// What may stand behind that number: the worker takes so long for large records
// that every slot has one at full rate; and it gives the record back as the result.
const (
	takesTime = " slowly"
	givesBack = " giving back"
)

const slotTime = 6 * time.Millisecond // for each slot: 160 tasks a second in all

// play is the Go worker: it does nothing with a record, but for one that asks it
// to sleep.
func play(role string) int {
	number, how, _ := strings.Cut(role, " ")
	concurrency, err := strconv.Atoi(number)
	handle := protocol.Handler(echo)
	if how != "" {
		handle = large(time.Duration(concurrency)*slotTime, " "+how == givesBack)
	}
	if err == nil {
		err = protocol.Serve(context.Background(), handle, protocol.WithConcurrency(concurrency))
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

func large(after time.Duration, back bool) protocol.Handler {
	return func(ctx context.Context, t *protocol.Task) (any, error) {
		if len(t.Record) > 10*recordSize {
			if err := sleep(ctx, after); err != nil {
				return nil, err
			}
		}
		if back {
			return json.RawMessage(t.Record), nil
		}
		return nil, nil
	}
}
