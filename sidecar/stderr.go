package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logging"
)

// flushTime bounds how long the end of the process waits for the reader of stderr.
const flushTime = time.Second

// stderr takes everything that this process writes to its standard error, and
// never waits for the reader of it: with direct writes a log driver that stalled
// stopped the claims, the end of a stop and the watchdog.
var stderr = sync.OnceValue(func() *logging.Queue { return logging.NewQueue(os.Stderr) })

// newLog makes the log of a command that runs workers, on [stderr].
func newLog(format logging.Format, level slog.Level) *slog.Logger {
	return logging.New(stderr(), format, level, os.Getenv("NO_COLOR") == "")
}

// sayDropped has the log tell of lines that were dropped, once it is read again.
func sayDropped(log *slog.Logger) {
	stderr().OnDrained(func(lines int64) {
		log.Warn("log lines were dropped: the log was not read, or could not be written", "lines", lines)
	})
}

// explain writes why a command has failed.
func explain(w io.Writer, err error) {
	text := lines(err)
	if exitStatus(err) == exitUsage {
		text = append(text, "'sidecar --help' and 'sidecar run --help' say more")
	}
	if see := topic(err).See(); see != "" {
		text[len(text)-1] += "; see " + see
	}
	var out bytes.Buffer
	for _, line := range text {
		if line != "" {
			fmt.Fprintln(&out, "sidecar: "+line)
		}
	}
	if panicked, ok := errors.AsType[*app.PanicError](err); ok {
		out.Write(panicked.Stack) // a bug of ours: here the stack is the message
	}
	_, _ = w.Write(out.Bytes())
}
