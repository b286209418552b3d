package local

import "fmt"

// StartError says why a worker could not be started, in one line that names
// the command and what was seen.
type StartError struct {
	Worker   string // its name or command
	Reason   string
	Attempts int
	Err      error // the cause, if that is known: see [IsTransient]
}

// Unwrap gives the cause.
func (e *StartError) Unwrap() error { return e.Err }

func (e *StartError) Error() string {
	s := fmt.Sprintf("worker %q could not be started: %s", e.Worker, e.Reason)
	if e.Attempts > 1 {
		s += fmt.Sprintf(" (%d attempts)", e.Attempts)
	}
	return s
}
