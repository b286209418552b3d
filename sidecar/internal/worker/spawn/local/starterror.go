package local

import "fmt"

// StartError says why a worker could not be started, in one line with the command and
// the observed reason.
type StartError struct {
	Worker   string // the worker's name or command
	Reason   string
	Attempts int
	Err      error // the cause, if it is known: see [IsTransient]
}

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.Err }

func (e *StartError) Error() string {
	s := fmt.Sprintf("worker %q could not be started: %s", e.Worker, e.Reason)
	if e.Attempts > 1 {
		s += fmt.Sprintf(" (%d attempts)", e.Attempts)
	}
	return s
}
