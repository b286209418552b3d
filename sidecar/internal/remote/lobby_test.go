package remote

import (
	"net"
	"testing"
)

func TestLobby(t *testing.T) {
	l := newLobby(2)
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
