package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// journal notes what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

var stageNames = []string{"stop", "claim", "dispatch", "process", "report", "lease", "leave", "health", "redis", "local redis"}

// TestStopOrder runs each pair of a stage that dies first and a stage that
// ignores the soft stop. Each stage is asked to stop only when the one before
// it has returned, a stage that ignores being asked is told to let go at the
// end of its share, and everything is over within the budget.
func TestStopOrder(t *testing.T) {
	for _, first := range stageNames {
		for _, stubborn := range append([]string{""}, stageNames...) {
			t.Run(first+" dies, "+stubborn+" ignores", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stopOrder(t, first, stubborn) })
			})
		}
	}
}

func stopOrder(t *testing.T, first, stubborn string) {
	var j journal
	death := make(chan struct{})
	clock := newStopClock(25 * time.Second)
	seq := &sequence{clock: clock, log: slog.New(slog.DiscardHandler)}
	for _, name := range stageNames {
		reserve := map[string]time.Duration{"process": reserveAfterProcess, "report": reserveAfterReport}[name]
		seq.add(actor{name: name, reserve: reserve, run: func(soft, hard context.Context) error {
			dies := make(chan struct{})
			if name == first {
				dies = death
			}
			select {
			case <-dies:
				j.note("%s died", name)
				return fmt.Errorf("%s is broken", name)
			case <-soft.Done():
			}
			j.note("%s asked", name)
			if name == stubborn {
				<-hard.Done()
			} else {
				time.Sleep(100 * time.Millisecond) // it takes a moment to finish
			}
			j.note("%s gone", name)
			return nil
		}})
	}
	ended := make(chan error)
	go func() { ended <- seq.group.Run() }()
	synctest.Wait()
	began := time.Now()
	close(death)
	if err := <-ended; err == nil || err.Error() != first+" is broken" {
		t.Errorf("the group ended with %v", err)
	}
	took := time.Since(began)

	want := []string{first + " died"}
	for _, name := range stageNames {
		if name != first {
			want = append(want, name+" asked", name+" gone")
		}
	}
	if !slices.Equal(j.lines, want) {
		t.Errorf("order:\n%s\nwant:\n%s", strings.Join(j.lines, "\n"), strings.Join(want, "\n"))
	}
	if took > 26*time.Second {
		t.Errorf("took %v", took)
	}
	if (stubborn == "" || stubborn == first) && took > time.Second {
		t.Errorf("took %v although every stage stopped when asked", took)
	}
}

func TestASharedBudgetIsCountedFromTheSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newStopClock(25 * time.Second)
		clock.begin()
		time.Sleep(7 * time.Second)
		clock.begin() // only the first call counts
		began := time.Now()
		ctx, cancel := clock.until(reserveAfterProcess)
		defer cancel()
		<-ctx.Done()
		if d := time.Since(began); d != 13*time.Second {
			t.Errorf("process had %v after 7 s of 25, want 13 s", d)
		}
	})
}

func TestASecondSignalEndsEveryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newStopClock(25 * time.Second)
		clock.begin()
		ctx, cancel := clock.until(reserveAfterProcess)
		defer cancel()
		began := time.Now()
		clock.letGo()
		<-ctx.Done()
		if d := time.Since(began); d != 0 {
			t.Errorf("process had %v after letGo", d)
		}
		reporting, cancelReport := clock.until(reserveAfterReport)
		defer cancelReport()
		<-reporting.Done()
		if d := time.Since(began); d != 1200*time.Millisecond {
			t.Errorf("report had %v after letGo", d)
		}
		rest, cancelRest := clock.until(0)
		defer cancelRest()
		<-rest.Done()
		if d := time.Since(began); d != rushedBudget {
			t.Errorf("the rest had %v after letGo", d)
		}
	})
}

func TestShortBudgetsAreSharedInProportion(t *testing.T) {
	for total, want := range map[time.Duration]time.Duration{
		25 * time.Second: 20 * time.Second, 60 * time.Second: 55 * time.Second,
		// The workers have half, and what follows them what it needs.
		5 * time.Second: 3500 * time.Millisecond, 3 * time.Second: 1500 * time.Millisecond, time.Second: 500 * time.Millisecond,
	} {
		if got := newStopClock(total).share(reserveAfterProcess); got != want {
			t.Errorf("of %v process gets %v, want %v", total, got, want)
		}
	}
}

func TestAPanicInOneStageStopsTheOthersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		seq := &sequence{clock: newStopClock(time.Second), log: slog.New(slog.DiscardHandler)}
		seq.add(actor{name: "one", run: func(soft, _ context.Context) error {
			<-soft.Done()
			j.note("one")
			return nil
		}})
		seq.add(actor{name: "two", run: func(context.Context, context.Context) error { panic("oops") }})
		seq.add(actor{name: "three", run: func(soft, _ context.Context) error {
			<-soft.Done()
			j.note("three")
			return errors.New("also broken")
		}})
		err := seq.group.Run()
		var p *PanicError
		if !errors.As(err, &p) || p.Stage != "two" || len(p.Stack) == 0 {
			t.Errorf("ended with %v", err)
		}
		if !slices.Equal(j.lines, []string{"one", "three"}) {
			t.Errorf("stopped: %v", j.lines)
		}
		if joined := errors.Join(seq.errs...); !strings.Contains(joined.Error(), "also broken") {
			t.Errorf("an error was dropped: %v", joined)
		}
	})
}

// TestAStageThatSpeaksLastIsHeard: it has its least time where those before it
// have used up the whole budget, and no more than that where it hangs.
func TestAStageThatSpeaksLastIsHeard(t *testing.T) {
	for name, c := range map[string]struct {
		needs, took time.Duration
		heard       bool
	}{
		"quick": {200 * time.Millisecond, 200 * time.Millisecond, true},
		"hangs": {time.Hour, speakAtLeast, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seq := &sequence{clock: newStopClock(3 * time.Second), log: slog.New(slog.DiscardHandler)}
				seq.add(actor{name: "stop", run: func(context.Context, context.Context) error { return nil }})
				seq.add(actor{name: "late", run: func(soft, _ context.Context) error {
					<-soft.Done()
					time.Sleep(5 * time.Second) // whatever it is told
					return nil
				}})
				var began time.Time
				heard := false
				seq.add(actor{name: "speaks", reserve: reserveAfterLeave, atLeast: speakAtLeast, run: func(soft, hard context.Context) error {
					<-soft.Done()
					began = time.Now()
					select {
					case <-time.After(c.needs):
						heard = true
					case <-hard.Done():
					}
					return nil
				}})
				_ = seq.group.Run()
				if took := time.Since(began); took != c.took || heard != c.heard {
					t.Errorf("it had %v and was heard: %v", took, heard)
				}
			})
		})
	}
}
