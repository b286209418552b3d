package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/host"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// Exit statuses, after sysexits.h.
const (
	exitOK       = 0
	exitNegative = 1 // the question was answered, with no
	// 130 is package cli's, which has 1 as well.
	exitTryAgain = 75 // Redis cannot be asked now: package cli's
	exitUsage    = 64 // the command line
	exitRefused  = 69 // Redis refuses us, or our own has ended; never for "not yet up"
	exitInternal = 70 // the worker cannot be started, a bug, or the watchdog
	exitConfig   = 78 // the environment or a setting
)

// failure marks an error that is not the command line's; what it wraps may be
// of a kind that has a status of its own.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// exitStatus gives an error its status. An error without a type of ours comes from
// cobra, which has untyped errors for wrong command lines.
func exitStatus(err error) int {
	var (
		wrongConfig *config.Error
		wrongUse    *config.UsageError
		refused     *app.RefusedError
		lost        *app.LocalRedisError
		start       *app.StartError
		crashLoop   *app.CrashLoopError
		panicked    *app.PanicError
		failed      failure
		own         *StatusError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUnhealthy):
		return exitNegative
	case errors.As(err, &own):
		return own.Status
	case errors.As(err, &wrongUse):
		return exitUsage
	case errors.As(err, &wrongConfig):
		return exitConfig
	case errors.As(err, &refused), errors.As(err, &lost):
		return exitRefused
	case errors.As(err, &start), errors.As(err, &crashLoop), errors.As(err, &panicked), errors.As(err, &failed):
		return exitInternal
	default:
		return exitUsage
	}
}

// lines splits an error's text, so that each line can carry our name. Stages that end for
// the same reason give the same line, which is there once.
func lines(err error) (all []string) {
	for line := range strings.SplitSeq(strings.TrimSpace(err.Error()), "\n") {
		if !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	return all
}

// explain writes why a command has failed, and the command that explains it. path is the
// command as it is typed, such as "sidecar dead requeue".
func explain(w io.Writer, err error, path string) {
	text := lines(err)
	id := explainID(err)
	if id == logdocs.UsageError {
		text = append(text, "'"+path+" --help' says more")
	}
	if id != "" {
		text[len(text)-1] += "; run '" + logdocs.Command(id) + "'"
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

// explainInternal writes why the sidecar ends by itself.
func explainInternal(err error) { explain(host.Stderr(), failure{err}, "sidecar run") }

// explainID is the id of the section that explains an error; empty for an error whose
// text is the whole answer.
func explainID(err error) string {
	var (
		start     *app.StartError
		crashLoop *app.CrashLoopError
		panicked  *app.PanicError
		stalled   *host.StalledError
		lost      *app.LocalRedisError
		format    *redis.FormatError
		own       *StatusError
	)
	switch status := exitStatus(err); {
	case status == exitUsage && errors.As(err, &own):
		return ""
	case errors.As(err, &lost) && status == exitRefused:
		return logdocs.EmbeddedRedisEnded
	case status == exitUsage:
		return logdocs.UsageError
	case status == exitConfig:
		return logdocs.ConfigError
	case status == exitRefused && errors.As(err, &format):
		return logdocs.RedisFormat
	case status == exitRefused:
		return logdocs.RedisRefused
	case status == exitTryAgain:
		return logdocs.RedisUnreachable
	case errors.As(err, &start):
		return logdocs.WorkerStartFailure
	case errors.As(err, &crashLoop):
		return logdocs.CrashLoop
	case errors.As(err, &panicked), errors.As(err, &stalled):
		return logdocs.InternalError
	default:
		return ""
	}
}
