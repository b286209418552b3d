package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
)

// stuckError is what the watchdog says.
type stuckError struct{ patience, budget time.Duration }

func (e *stuckError) Error() string {
	return fmt.Sprintf("the stop was not over %v after its budget of %v (this is a bug in the sidecar, please report it)", e.patience, e.budget)
}

// topic is where an error that ends a command is explained; empty for one that
// says all there is to say.
func topic(err error) logdocs.Topic {
	var (
		start     *app.StartError
		crashLoop *app.CrashLoopError
		panicked  *app.PanicError
		stuck     *stuckError
		lost      *app.LocalRedisError
	)
	switch status := exitStatus(err); {
	case errors.As(err, &lost) && status == exitRefused:
		return logdocs.EmbeddedRedis
	case status == exitUsage:
		return logdocs.Usage
	case status == exitConfig:
		return logdocs.Config
	case status == exitRefused:
		return logdocs.Refused
	case status == exitTryAgain:
		return logdocs.Unreachable
	case errors.As(err, &start):
		return logdocs.WorkerStart
	case errors.As(err, &crashLoop):
		return logdocs.CrashLoop
	case errors.As(err, &panicked), errors.As(err, &stuck):
		return logdocs.Bug
	default:
		return ""
	}
}
