//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// roles are the workers that this test binary can be: `sidecar run --
// <test binary> worker=<role>`.
var roles = map[string]protocol.Handler{
	// clock answers when it was asked, in ns since 1970.
	"clock": func(context.Context, *protocol.Task) (any, error) {
		return time.Now().UnixNano(), nil
	},
	// payload gives the record's payload back.
	"payload": func(_ context.Context, t *protocol.Task) (any, error) {
		var record struct{ Payload json.RawMessage }
		err := t.Decode(&record)
		return record.Payload, err
	},
}

// programs are likewise, whole.
var programs = map[string]func() error{}

func serveRole(role string) int {
	serve, ok := programs[role]
	if !ok {
		handler, ok := roles[role]
		if !ok {
			fmt.Fprintf(os.Stderr, "no such role: %s\n", role)
			return 64
		}
		serve = func() error { return protocol.Serve(context.Background(), handler) }
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
