package app

import (
	"errors"
	"fmt"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// StartError says that the worker could not be started; see its message.
type StartError struct {
	Worker   string // its name or command
	Reason   string
	Attempts int
	Err      error // the whole error
}

func (e *StartError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *StartError) Unwrap() error { return e.Err }

// CrashLoopError says that no worker keeps running; see its message.
type CrashLoopError struct {
	Worker string // its name or command
	Deaths int    // of each slot's worker, in a row
	Last   string // what became of the last one
	Err    error  // the whole error
}

func (e *CrashLoopError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *CrashLoopError) Unwrap() error { return e.Err }

// RefusedError says that Redis refuses the sidecar for good; see its message.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// LocalRedisError says that the Redis that the sidecar had started itself has ended
// while it was needed. All that was in it is lost.
type LocalRedisError struct{ Err error }

func (e *LocalRedisError) Error() string {
	return "the embedded redis has ended, and its tasks are lost with it: " + e.Err.Error()
}

// Unwrap gives how it ended.
func (e *LocalRedisError) Unwrap() error { return e.Err }

// PanicError reports a panic in one of the stages: a bug in the sidecar.
type PanicError struct {
	Stage string
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("internal error: %s panicked: %v (this is a bug in the sidecar, please report it)", e.Stage, e.Value)
}

// public gives the error of a stage the types that this package promises.
func public(err error) error {
	if e, ok := errors.AsType[*local.StartError](err); ok {
		err = &StartError{Worker: e.Worker, Reason: e.Reason, Attempts: e.Attempts, Err: err}
	}
	if e, ok := errors.AsType[*rpc.CrashLoopError](err); ok {
		err = &CrashLoopError{Worker: e.Worker, Deaths: e.Deaths, Last: e.Last, Err: err}
	}
	if _, ok := errors.AsType[*link.RefusedError](err); ok {
		err = &RefusedError{err}
	}
	return err
}
