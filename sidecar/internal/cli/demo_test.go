package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/examples/go-worker/tasks"
)

func TestTheExampleTask(t *testing.T) {
	var out bytes.Buffer
	if err := doTask(t.Context(), strings.NewReader(`{"task_id":"primes_1","params":{"to":100}}`), &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != `{"count":25,"largest":97}`+"\n" {
		t.Errorf("printed %s", got)
	}
	if err := doTask(t.Context(), strings.NewReader(`{"task_id":"nonsense"}`), &out); !errors.Is(err, tasks.ErrUnknown) {
		t.Errorf("an unknown kind: %v", err)
	}
}

func TestTheDemoHasTwoModes(t *testing.T) {
	if err := runDemo("supervise", false); exitStatus(err) != exitUsage || !strings.Contains(err.Error(), "rpc or exec") {
		t.Errorf("%v", err)
	}
}
