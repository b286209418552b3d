// Package recoverpanic turns a panic into an error: one broken part must not keep the
// others from handing back what they hold.
package recoverpanic

import (
	"fmt"
	"runtime/debug"
)

// Panic is a panic that was caught: a bug in the sidecar.
type Panic struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

func (p *Panic) Error() string { return fmt.Sprintf("panic: %v", p.Value) }

// Do calls f and returns its error, or a *Panic if it panicked. It catches
// nothing of goroutines that f starts; a *Panic that f passes on from one of them keeps its
// stack.
func Do(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *Panic:
			err = r
		default:
			err = &Panic{Value: r, Stack: debug.Stack()}
		}
	}()
	return f()
}
