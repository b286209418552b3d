package app

import (
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// checkFolders sees to it that workers can be started where they are to be: at the
// start of the sidecar, and not with the first task.
func checkFolders(c *config.Config) error {
	workers := []config.Worker{c.Worker}
	for _, k := range c.Kinds {
		workers = append(workers, k.Worker)
	}
	for _, w := range workers {
		if w.Socket.Path != "" {
			continue // they are elsewhere
		}
		if err := local.CheckDir(w.Dir); err != nil {
			return &config.Error{Err: err}
		}
	}
	return nil
}
