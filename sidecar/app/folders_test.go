package app_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestAWorkingDirectoryThatDoesNotExistIsSaidAtTheStart, and not when the first task
// fails; where the workers are elsewhere it is that place's.
func TestAWorkingDirectoryThatDoesNotExistIsSaidAtTheStart(t *testing.T) {
	for name, change := range map[string]func(*app.Config){
		"one kind of worker": func(c *app.Config) { c.Worker.Dir = "/no/such/folder" },
		"several kinds": func(c *app.Config) {
			w := c.Worker
			w.Dir = "/no/such/folder"
			c.Worker.Command = nil
			c.Kinds = []app.KindConfig{{Pattern: "*", Mode: app.ModeExec, Slots: 1, Worker: w}}
		},
	} {
		cfg := config(t, "redis://localhost:1/0", "p", &testlog.Buffer{})
		cfg.Worker.Command = []string{"cat"}
		change(&cfg)
		a, err := app.Start(t.Context(), cfg)
		if err == nil {
			_ = a.Close()
		}
		if wrong, ok := errors.AsType[*app.ConfigError](err); !ok || !strings.Contains(wrong.Error(), `"/no/such/folder" (SIDECAR_WORKER_DIR) does not exist`) {
			t.Errorf("%s: started with %v", name, err)
		}
	}
}
