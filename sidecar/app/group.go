package app

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/oklog/run"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

// actor is one stage as the group runs it.
type actor struct {
	name string
	// run works until soft ends, then finishes, and lets go when hard ends. It
	// returns when everything it started has ended.
	run func(soft, hard context.Context) error
	// reserve is what is left of the stop's budget when hard ends.
	reserve time.Duration
	// within, if set, is how long after its own turn began hard ends, if that
	// is sooner.
	within time.Duration
	// atLeast is how long after its own turn began hard ends at the soonest.
	atLeast time.Duration
}

// sequence runs actors in an oklog/run group and stops them one after another
// in the order given.
//
// run.Group calls all interrupts in the order of Add on one goroutine and does
// not wait for an actor in between. The order is made here: each interrupt
// blocks until its own actor has returned: asked softly, and when its share of
// the budget is used up, told to let go. So a stage is gone before the next
// one is asked, and only the senders' side may rely on the receivers' being
// there.
type sequence struct {
	group run.Group
	clock *stopClock
	log   *slog.Logger
	errs  []error // of every actor; run.Group keeps only the first
}

func (s *sequence) add(a actor) {
	soft, cancelSoft := context.WithCancel(context.Background())
	hard, cancelHard := context.WithCancel(context.Background())
	done := make(chan struct{})
	i := len(s.errs)
	s.errs = append(s.errs, nil)
	s.group.Add(func() error {
		defer close(done)
		s.errs[i] = guard(a, soft, hard)
		return s.errs[i]
	}, func(error) {
		s.clock.begin()
		began := time.Now()
		cancelSoft()
		budget, release := s.clock.until(a.reserve)
		defer release()
		if a.within > 0 {
			var end context.CancelFunc
			budget, end = context.WithTimeout(budget, a.within)
			defer end()
		}
		if !over(done, budget.Done(), time.Until(began.Add(a.atLeast))) {
			s.log.Debug("force stop of a stage", "stage", a.name)
		}
		cancelHard()
		<-done
		s.log.Debug("stage has stopped", "stage", a.name, "took", time.Since(began).Round(time.Millisecond).String())
	})
}

// over waits for done, until the budget has ended and least has passed, and
// reports whether it was done by then.
func over(done, budget <-chan struct{}, least time.Duration) bool {
	timer := time.NewTimer(least)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-budget:
	}
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// guard turns a panic into an error: one broken stage must not keep the others
// from handing back what they hold.
func guard(a actor, soft, hard context.Context) error {
	err := recoverpanic.Do(func() error { return a.run(soft, hard) })
	if p, ok := errors.AsType[*recoverpanic.Panic](err); ok {
		return &PanicError{Stage: a.name, Value: p.Value, Stack: p.Stack}
	}
	return public(err)
}
