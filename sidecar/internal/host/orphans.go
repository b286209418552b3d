package host

import (
	"errors"
	"log/slog"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// AdoptOrphans makes this process the parent of what its workers leave behind.
// It belongs to the whole process, so the commands ask for it and the library
// does not. Where it cannot be had, orphans are init's, as ever.
func AdoptOrphans(log *slog.Logger) (stop func()) {
	r, err := reaper.Begin(log)
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			log.Warn("leftover processes of workers cannot be adopted", "error", err)
		}
		return func() {}
	}
	return r.Stop
}
