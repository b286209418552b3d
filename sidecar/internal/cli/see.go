package cli

import (
	"errors"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
)

// topic is where an error that ends a command is explained; empty for one that
// says all there is to say.
func topic(err error) logdocs.Topic {
	var (
		start     *app.StartError
		crashLoop *app.CrashLoopError
		panicked  *app.PanicError
		stalled   *host.StalledError
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
	case errors.As(err, &panicked), errors.As(err, &stalled):
		return logdocs.Bug
	default:
		return ""
	}
}
