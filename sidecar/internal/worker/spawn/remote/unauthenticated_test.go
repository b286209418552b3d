package remote

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheOldestUnauthenticatedConnectionIsClosed(t *testing.T) {
	l := newUnauthenticated(2)
	var ours, theirs [3]net.Conn
	for i := range ours {
		ours[i], theirs[i] = net.Pipe()
		l.enter(ours[i])
	}
	if _, err := theirs[0].Read(make([]byte, 1)); err == nil || l.size() != 2 {
		t.Errorf("the oldest one has made no room: %d wait", l.size())
	}
	for i, want := range []bool{false, true, true} {
		if got := l.leave(ours[i]); got != want {
			t.Errorf("connection %d left: %t", i, got)
		}
	}
	if l.leave(ours[1]) || l.size() != 0 {
		t.Error("one left twice")
	}
}

// TestAReminderIsBounded: a process that connected in a loop once filled the log with
// 400 lines a second.
func TestAReminderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r reminder
		want := func(step string, more int, now bool) {
			t.Helper()
			if m, n := r.due(); m != more || n != now {
				t.Errorf("%s: %d more, tell %t; want %d, %t", step, m, n, more, now)
			}
		}
		want("the first", 0, true)
		for range 1000 {
			want("at once", 0, false)
		}
		time.Sleep(reminderInterval)
		want("a while later", 1000, true)
		want("after that", 0, false)
		time.Sleep(time.Hour)
		want("much later", 1, true)
	})
}
