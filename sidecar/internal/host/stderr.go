package host

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logging"
)

// FlushTimeout bounds how long the end of the process waits for the reader of stderr.
const FlushTimeout = time.Second

// Stderr takes everything that this process writes to its standard error, and
// never waits for the reader of it: with direct writes a log driver that stalled
// stopped the claims, the end of a stop and the watchdog.
var Stderr = sync.OnceValue(func() *logging.Queue { return logging.NewQueue(os.Stderr) })

// NewLog makes the log of a command that runs workers, on [Stderr]. Each line has the
// id of its message.
func NewLog(format config.LogFormat, level slog.Level) *slog.Logger {
	log := logging.New(Stderr(), format, level, os.Getenv("NO_COLOR") == "")
	return slog.New(logdocs.Handler(log.Handler()))
}

// ReportDroppedLines has the log tell of lines that were dropped, once it is read again.
func ReportDroppedLines(log *slog.Logger) {
	Stderr().OnDrained(func(lines int64) {
		log.Warn("log lines were dropped", "lines", lines)
	})
}
