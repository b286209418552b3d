package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// sdkVariable makes the test binary a worker on protocol.Serve that runs so many
// tasks at once.
const sdkVariable = "CONFORMANCE_TEST_SDK"

// sdkWorker is testdata/worker.py in Go.
func sdkWorker() {
	concurrency, err := strconv.Atoi(os.Getenv(sdkVariable))
	if err == nil {
		err = protocol.Serve(context.Background(), sdkTask, protocol.WithConcurrency(concurrency), protocol.WithInfo("sdk", "1"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func sdkTask(ctx context.Context, t *protocol.Task) (any, error) {
	fmt.Print("a print, ")
	var record struct {
		TaskID  string  `json:"task_id"`
		Seconds float64 `json:"seconds"`
	}
	if err := t.Decode(&record); err != nil {
		return nil, err
	}
	switch record.TaskID {
	case "quick":
		return t.Record, nil
	case "slow":
		fmt.Fprintln(os.Stderr, strings.Repeat("noise ", 40_000))
		t.Progress(0.5, "half")
		t.Log(slog.LevelDebug, "half", "of", t.Attempt)
		select {
		case <-time.After(time.Duration(record.Seconds * float64(time.Second))):
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	case "retryable":
		return nil, protocol.Retryable(errors.New("not now"))
	case "large":
		return strings.Repeat("x", 5000), nil
	case "exact":
		return json.RawMessage(`{"big":1152921504606846976}`), nil
	default:
		return nil, fmt.Errorf("unknown task %q", record.TaskID)
	}
}
