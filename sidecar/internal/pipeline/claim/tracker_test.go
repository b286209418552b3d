package claim

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestTracker(t *testing.T) {
	inCall := func(p *Tracker) { p.step(waitsForNothing) }
	forSlots := func(p *Tracker) { p.step(waitsForSlots) }
	forReports := func(p *Tracker) { p.step(waitsForReports) }
	for _, test := range []struct {
		name          string
		hang          func(p *Tracker)
		excused, busy bool
		after         time.Duration
		want          time.Duration
	}{
		{"before its first step", func(*Tracker) {}, false, false, time.Hour, 0},
		{"in a call", inCall, false, false, time.Minute, time.Minute},
		{"in a call, not long yet", inCall, false, false, 30 * time.Second, 0},
		{"in a call, at the limit", inCall, false, false, 35 * time.Second, 0},
		{"in a call, without demand", inCall, false, true, time.Minute, time.Minute},
		{"in a call, redis is away", inCall, true, false, time.Hour, 0},
		{"after a claim", inCall, false, true, time.Minute, time.Minute},
		{"waiting for slots that are taken", forSlots, false, true, time.Hour, 0},
		{"waiting for slots that are free", forSlots, false, false, time.Minute, time.Minute},
		{"waiting for reports", forReports, false, false, 9 * time.Minute, 0},
		{"waiting for reports, which hang", forReports, false, true, 11 * time.Minute, 11 * time.Minute},
		{"waiting for reports, redis is away", forReports, true, false, time.Hour, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Tracker{}
				test.hang(p)
				const within = 35 * time.Second
				if got := p.Overdue(within, test.excused, test.busy); got != 0 {
					t.Errorf("overdue by %v at once", got)
				}
				time.Sleep(test.after)
				if got := p.Overdue(within, test.excused, test.busy); got != test.want {
					t.Errorf("overdue by %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestTrackerAfterAnExcuse: the time counts from the end of an excuse.
func TestTrackerAfterAnExcuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Tracker{}
		p.step(waitsForNothing)
		time.Sleep(time.Hour)
		p.Overdue(0, true, false)
		time.Sleep(time.Second)
		if got := p.Overdue(0, false, false); got != time.Second {
			t.Errorf("overdue by %v a second after redis was back", got)
		}
	})
}

// TestTrackerWhenASlotHasJustBecomeFree: a slot that becomes free at the first check,
// after an hour without a free slot, is no reason to restart the sidecar.
func TestTrackerWhenASlotHasJustBecomeFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Tracker{}
		p.step(waitsForSlots)
		time.Sleep(time.Hour)
		if got := p.Overdue(time.Second, false, false); got != 0 {
			t.Errorf("overdue by %v", got)
		}
		time.Sleep(2 * time.Second)
		if got := p.Overdue(time.Second, false, false); got != 2*time.Second {
			t.Errorf("overdue by %v two seconds later", got)
		}
	})
}

// TestTrackerWithReportsThatAreSlow: the time for a report begins anew when Redis has
// accepted the one before.
func TestTrackerWithReportsThatAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Tracker{}
		p.step(waitsForReports)
		for range 10 {
			time.Sleep(9 * time.Minute)
			if got := p.Overdue(time.Second, false, false); got != 0 {
				t.Errorf("overdue by %v", got)
			}
			p.Reported()
		}
	})
}
