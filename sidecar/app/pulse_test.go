package app

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web"
)

// hanging is a Redis call that does not come back.
type hanging struct{ claim.Source }

func (hanging) Wait(ctx context.Context) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

func TestPulse(t *testing.T) {
	inCall := func(ctx context.Context, p *pulse) { _, _ = felt{hanging{}, p}.Wait(ctx) }
	inWant := func(outcomes, slots int) func(context.Context, *pulse) {
		return func(ctx context.Context, p *pulse) {
			q, box := dispatch.New(dispatch.Exits{}), report.NewBox()
			box.DoneAll(make([]task.Outcome, outcomes))
			q.AddCapacity(slots)
			_, _ = room{q, box, p}.Want(ctx)
		}
	}
	inPut := func(_ context.Context, p *pulse) {
		room{dispatch.New(dispatch.Exits{}), report.NewBox(), p}.Put(nil) // and what is done after it hangs
	}
	for _, test := range []struct {
		name          string
		hang          func(ctx context.Context, p *pulse)
		excused, busy bool
		after         time.Duration
		want          time.Duration
	}{
		{"before its first step", func(context.Context, *pulse) {}, false, false, time.Hour, 0},
		{"in a call", inCall, false, false, time.Minute, time.Minute},
		{"in a call, not long yet", inCall, false, false, 30 * time.Second, 0},
		{"in a call, with no task wanted", inCall, false, true, time.Minute, time.Minute},
		{"in a call, redis is away", inCall, true, false, time.Hour, 0},
		{"after a claim", inPut, false, true, time.Minute, time.Minute},
		{"waiting for slots that are taken", inWant(0, 0), false, true, time.Hour, 0},
		{"waiting for slots that are free", inWant(0, 0), false, false, time.Minute, time.Minute},
		{"waiting for reports", inWant(10_000, 1), false, false, 9 * time.Minute, 0},
		{"waiting for reports, which hang", inWant(10_000, 1), false, true, 11 * time.Minute, 11 * time.Minute},
		{"waiting for reports, redis is away", inWant(10_000, 1), true, false, time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				p := &pulse{}
				go test.hang(ctx, p)
				synctest.Wait()
				const within = 35 * time.Second
				if got := p.overdue(within, test.excused, test.busy); got != 0 {
					t.Errorf("overdue by %v at once", got)
				}
				time.Sleep(test.after)
				if got := p.overdue(within, test.excused, test.busy); got != test.want {
					t.Errorf("overdue by %v, want %v", got, test.want)
				}
			})
		})
	}
}

// What ended an excuse is where the time begins to count.
func TestPulseAfterAnExcuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		p.step(waitsForNothing)
		time.Sleep(time.Hour)
		p.overdue(0, true, false)
		time.Sleep(time.Second)
		if got := p.overdue(0, false, false); got != time.Second {
			t.Errorf("overdue by %v a second after redis was back", got)
		}
	})
}

// A slot that becomes free in the moment of the first question, after an hour in
// which all were taken, is no reason to restart the sidecar.
func TestPulseWhenASlotHasJustBecomeFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		p.step(waitsForSlots)
		time.Sleep(time.Hour)
		if got := p.overdue(time.Second, false, false); got != 0 {
			t.Errorf("overdue by %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := p.overdue(time.Second, false, false); got != 2*time.Second {
			t.Errorf("overdue by %v two seconds later", got)
		}
	})
}

// A task that could start begins its time again whenever one is taken, and when no slot
// was free meanwhile.
func TestPulseOfTasksThatAreNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		for i, look := range []struct {
			dispatch.Handover
			want time.Duration
		}{
			{dispatch.Handover{Taken: 5, Startable: true}, 0}, // in this moment
			{dispatch.Handover{Taken: 6, Startable: true}, 0},
			{dispatch.Handover{Taken: 6, Startable: true}, time.Minute},
			{dispatch.Handover{Taken: 6}, 0},
			{dispatch.Handover{Taken: 6, Startable: true}, 0},
			{dispatch.Handover{Taken: 6, Startable: true}, time.Minute},
			{dispatch.Handover{Taken: 6, Startable: true}, 2 * time.Minute},
			{dispatch.Handover{Taken: 7, Startable: true}, 0},
		} {
			if got := p.notTaken(30*time.Second, look.Handover); got != look.want {
				t.Errorf("look %d: %v, want %v", i, got, look.want)
			}
			time.Sleep(time.Minute)
		}
	})
}

// A report that Redis takes begins the time of the next one.
func TestPulseWithReportsThatAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		p.step(waitsForReports)
		for range 10 {
			time.Sleep(9 * time.Minute)
			if got := p.overdue(time.Second, false, false); got != 0 {
				t.Errorf("overdue by %v", got)
			}
			p.reported()
		}
	})
}

// TestAProbeDoesNotHangWithALock: it fails once the state could not be read for
// longer than any lock is held, and is well again when it can be.
func TestAProbeDoesNotHangWithALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l look
		lock := make(chan struct{})
		var reads atomic.Int32
		read := func() web.Health {
			reads.Add(1)
			<-lock
			return web.Health{Alive: true, Ready: true}
		}
		for _, alive := range []bool{true, false, false} {
			began := time.Now()
			h := l.health(read)
			if took := time.Since(began); h.Alive != alive || h.Ready || len(h.Reasons) == 0 || took != lookPatience {
				t.Errorf("%+v after %v, want alive=%t", h, took, alive)
			}
			time.Sleep(lookLimit)
		}
		if n := reads.Load(); n != 1 {
			t.Errorf("%d goroutines read the state", n)
		}
		close(lock)
		synctest.Wait()
		if h := l.health(read); !h.Alive || !h.Ready {
			t.Errorf("%+v when the lock is free", h)
		}
		if h := l.health(func() web.Health { panic("no state") }); !h.Alive || h.Ready || len(h.Reasons) == 0 {
			t.Errorf("%+v after a panic", h)
		}
	})
}
