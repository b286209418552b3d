package app_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestAWorkingDirectoryThatDoesNotExistIsSaidAtTheStart, and not when the first task
// fails; where the workers are elsewhere it is that place's.
func TestAWorkingDirectoryThatDoesNotExistIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Config){
		"one kind of worker": func(c *config.Config) { c.Worker.Dir = "/no/such/folder" },
		"several kinds": func(c *config.Config) {
			w := c.Worker
			w.Dir = "/no/such/folder"
			c.Worker.Command = nil
			c.Kinds = []config.Kind{{Pattern: "*", Mode: config.ModeExec, Slots: 1, Worker: w}}
		},
	} {
		cfg := settings(t, "redis://localhost:1/0", "p", &testlog.Buffer{})
		cfg.Worker.Command = []string{"cat"}
		change(&cfg)
		a, err := app.Start(t.Context(), cfg)
		if err == nil {
			_ = a.Close()
		}
		if wrong, ok := errors.AsType[*config.Error](err); !ok || !strings.Contains(wrong.Error(), `"/no/such/folder" (SIDECAR_WORKER_DIR) does not exist`) {
			t.Errorf("%s: started with %v", name, err)
		}
	}
}
