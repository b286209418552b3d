package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestStreamsAreCarriedByteForByte: in both directions at once, and with more than any
// buffer holds. The stderr stays in the child's container.
func TestStreamsAreCarriedByteForByte(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	host := p.host("one", "echo")
	c := p.start(h, "mark-1")
	defer finish(c)
	data := make([]byte, 5<<20+7)
	_, _ = rand.Read(data)
	go func() {
		_, _ = c.Stdin().Write(data)
		_ = c.Stdin().Close()
	}()
	got, err := io.ReadAll(c.Stdout())
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes came back, or others: %v", len(got), len(data), err)
	}
	closed(t, "its end", c.Exited())
	if c.Fate() != "exited with status 0" || local.EndingOf(c) != (local.Ending{}) || local.Excused(c) || local.SharedDeath(c) {
		t.Errorf("%s, %+v", c.Fate(), local.EndingOf(c))
	}
	if text, err := io.ReadAll(c.Stderr()); len(text) != 0 || err != nil {
		t.Errorf("stderr: %q %v", text, err)
	}
	if log := p.log.String(); !strings.Contains(log, "a line for the log here") || c.Pid() == 0 {
		t.Errorf("pid %d, %s", c.Pid(), log)
	}
	if err := host.stop(); err != nil {
		t.Error(err)
	}
}

// TestAChildGetsItsHostsEnvironment: of the sidecar's environment it gets only its own
// variables.
func TestAChildGetsItsHostsEnvironment(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.host("one", "environment")
	c := p.start(h, "the mark")
	defer finish(c)
	text, err := io.ReadAll(c.Stdout())
	env := strings.Split(string(text), "\n")
	dir := strings.TrimSuffix(p.path, "/w.sock")
	for _, want := range []string{"OWN=yes", "WORKER_ID=w", "REDIS_URL=unix://" + dir + "/r.sock", local.IDVariable + "=the mark"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing: %q, %v", want, text, err)
		}
	}
	if strings.Contains(string(text), "LD_PRELOAD") {
		t.Error("the sidecar could have it load anything")
	}
	closed(t, "its end", c.Exited())
}

// TestAChildThatFails: its status and its last lines are reported.
func TestAChildThatFails(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.host("one", "fail")
	c := p.start(h, "m")
	defer finish(c)
	closed(t, "its end", c.Exited())
	if got := local.EndingOf(c); got.Code != 3 || c.Fate() != "exited with status 3" {
		t.Errorf("%+v %s", got, c.Fate())
	}
	if text, _ := io.ReadAll(c.Stderr()); !strings.Contains(string(text), "I cannot go on") {
		t.Errorf("its last words: %q", text)
	}
}

// TestSignalsReachAChild: the child ignores every signal but SIGKILL.
func TestSignalsReachAChild(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.host("one", "stubborn")
	c := p.start(h, "m")
	defer finish(c)
	_, _ = io.ReadFull(c.Stdout(), make([]byte, len("ready\n")))
	ctx, now := context.WithCancel(context.Background())
	now()
	local.End(ctx, c, func() { c.Stdin().Close() }, time.Second)
	if got := local.EndingOf(c); got.Signal != syscall.SIGKILL || c.Fate() != "was killed by SIGKILL, sent by the sidecar" {
		t.Errorf("%+v %s", got, c.Fate())
	}
	c.Signal(syscall.SIGKILL) // to no process
}

// TestAChildThatClosesItsStdin: writes to it fail, as to a pipe.
func TestAChildThatClosesItsStdin(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.host("one", "deaf")
	c := p.start(h, "m")
	defer finish(c)
	_ = c.Stdin().SetWriteDeadline(time.Now().Add(patience))
	var err error
	for err == nil {
		_, err = c.Stdin().Write(make([]byte, 64<<10))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the writer never heard of it")
	}
	c.Signal(syscall.SIGKILL)
	closed(t, "its end", c.Exited())
}

// TestDrain: the children are asked to leave, no new one is started by the host, and
// the host ends after them.
func TestDrain(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	host := p.host("one", "echo")
	c := p.start(h, "m")
	defer finish(c)
	host.drain()
	closed(t, "the child to be told", local.Leaving(c))
	select {
	case <-host.done:
		t.Fatal("it has not waited for its child")
	case <-time.After(50 * time.Millisecond):
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := h.Start(ctx, "n"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("started there: %v", err)
	}
	_ = c.Stdin().Close() // its tasks have ended
	closed(t, "the host's end", host.done)
	closed(t, "the child's end", c.Exited())
	if host.err != nil || c.Fate() != "exited with status 0" {
		t.Errorf("%v, %s", host.err, c.Fate())
	}
	if strings.Contains(p.log.String(), "level=WARN") {
		t.Errorf("the log has complaints: %s", p.log)
	}
}

// TestWhatAChildHasNotRead: the number of unread bytes of stdin is known on the
// sidecar's side of the socket.
func TestWhatAChildHasNotRead(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.hostOf("one", "/bin/sh", "-c", "read x; read y; sleep 0.3; exit 0")
	c := p.start(h, "m")
	defer finish(c)
	const text = "first\nsecond\nthird\n"
	if _, err := io.WriteString(c.Stdin(), text); err != nil {
		t.Fatal(err)
	}
	closed(t, "its end", c.Exited())
	if got, want := local.InputRead(c, int64(len(text))), int64(len("first\nsecond\n")); got != want {
		t.Errorf("%d bytes are read, want %d", got, want)
	}
}

// TestAWorkersDeathBeforeItsHostsStop: SIGTERM to a whole container may reach the
// worker before the host, whose stop is reported anyway.
func TestAWorkersDeathBeforeItsHostsStop(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	host := p.host("one", "echo")
	c := p.start(h, "m")
	defer finish(c)
	if err := syscall.Kill(-c.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	closed(t, "the child's end", c.Exited())
	if got := local.EndingOf(c); !got.IsStop() || c.Fate() != "was killed by SIGTERM" {
		t.Errorf("%+v, %s", got, c.Fate())
	}
	if stops := local.HostStops(c); stops == nil || local.Within(stops, 0) {
		t.Errorf("the host stops, or never will: %v", stops)
	}
	host.drain()
	closed(t, "its host's stop", local.HostStops(c))
}

// TestAHangupReachesTheSidecar: SIGHUP to a whole container may have ended a child,
// before or after the host gets the signal.
func TestAHangupReachesTheSidecar(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	host := p.host("one", "echo")
	c := p.start(h, "m")
	defer finish(c)
	if err := syscall.Kill(-c.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	closed(t, "the child's end", c.Exited())
	if got := local.EndingOf(c); !got.IsHangup() || !got.IsStop() {
		t.Errorf("%+v", got)
	}
	recent, next := local.HostHangups(c).Recent(time.Minute)
	if recent {
		t.Error("a hangup that was none")
	}
	host.hangup()
	closed(t, "its host's hangup", next)
	if recent, _ := local.HostHangups(c).Recent(time.Minute); !recent {
		t.Error("it is forgotten")
	}
}

// TestAStopWhoseTimeIsOver: the host ends its children and reports that, so that no
// worker counts as crashed.
func TestAStopWhoseTimeIsOver(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	host := p.host("one", "stubborn")
	c := p.start(h, "m")
	defer finish(c)
	if err := host.stop(); err != nil {
		t.Error(err)
	}
	closed(t, "the child's end", c.Exited())
	if !local.Excused(c) || local.SharedDeath(c) {
		t.Errorf("it is taken for a crash: %s", c.Fate())
	}
}

// TestALostHostTakesItsChildrenAlong: their death is shared if there are several.
func TestALostHostTakesItsChildrenAlong(t *testing.T) {
	for _, children := range []int{1, 3} {
		p := newFolder(t)
		h, _ := p.hub()
		p.host("one", "stubborn")
		var cs []local.Process
		for range children {
			c := p.start(h, "m")
			defer finish(c)
			cs = append(cs, c)
		}
		for _, l := range h.list() {
			_ = l.conn.Close() // like the death of the host
		}
		for _, c := range cs {
			closed(t, "its end", c.Exited())
			if local.SharedDeath(c) != (children > 1) || local.Excused(c) || c.Fate() != "was lost with its container" {
				t.Errorf("of %d: shared=%t, %s", children, local.SharedDeath(c), c.Fate())
			}
		}
		// The host has ended the children and connects again.
		again := p.start(h, "again")
		defer finish(again)
		if n := strings.Count(p.log.String(), "worker ended"); n != children {
			t.Errorf("%d of %d children were ended first: %s", n, children, p.log)
		}
	}
}

// TestAHostOutlivesSidecars: it ends the children of a sidecar that has gone, and
// serves the next one.
func TestAHostOutlivesSidecars(t *testing.T) {
	p := newFolder(t)
	host := p.host("one", "echo")
	for range 3 {
		h, stop := p.hub()
		c := p.start(h, "m")
		defer finish(c)
		stop()
		closed(t, "the child's end", c.Exited())
		if _, err := os.Stat(p.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	}
	if err := host.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(p.log.String(), "sidecar is lost, connecting again") {
		t.Errorf("a sidecar that stops is no loss: %s", p.log)
	}
}

// TestChildrenAreSpread: over the hosts, including those that connect later.
func TestChildrenAreSpread(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.host("one", "echo")
	var cs []local.Process
	for range 4 {
		c := p.start(h, "m")
		defer finish(c)
		cs = append(cs, c)
	}
	p.host("two", "echo")
	wait.Until(t, "the second host", func() bool { return len(h.list()) == 2 })
	// Like the pool, start another child for one that leaves.
	for range 2 {
		var left local.Process
		wait.Until(t, "one to leave", func() bool {
			for i, c := range cs {
				select {
				case <-local.Leaving(c):
					left, cs = c, slices.Delete(cs, i, i+1)
					return true
				default:
				}
			}
			return false
		})
		_ = left.Stdin().Close()
		closed(t, "its end", left.Exited())
		c := p.start(h, "m")
		defer finish(c)
		cs = append(cs, c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.links {
		if n := l.loadLocked(); n != 2 {
			t.Errorf("%s has %d of 4", l.name, n)
		}
	}
	if h.moving != nil {
		t.Error("and one more moves")
	}
}

// TestACommandThatCannotBeStarted: it ends the host, whose container shows the error,
// and not the sidecar.
func TestACommandThatCannotBeStarted(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	host := p.hostOf("one", "/nowhere/worker")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 2 {
		if _, err := h.Start(ctx, "m"); err == nil || !strings.Contains(err.Error(), "the file does not exist") {
			t.Errorf("the sidecar hears %v", err)
		}
	}
	closed(t, "the host's end", host.done)
	if failure, ok := errors.AsType[*local.StartError](host.err); !ok || failure.Attempts != 2 {
		t.Errorf("%v", host.err)
	}
}

// TestACommandThatIsBeingReplaced: it ends no host, however often the start fails.
func TestACommandThatIsBeingReplaced(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	text, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(program, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.hostOf("one", program)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for range 5 {
		if _, err := h.Start(ctx, "m"); err == nil || !strings.Contains(err.Error(), "text file busy") {
			t.Errorf("the sidecar hears %v", err)
		}
	}
	writer.Close()
	c := p.start(h, "m")
	defer finish(c)
	_ = c.Stdin().Close()
	closed(t, "its end", c.Exited())
}

// TestUnauthenticatedConnections: they get no answer and disturb no worker.
func TestUnauthenticatedConnections(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	p.host("one", "echo")
	c := p.start(h, "m")
	defer finish(c)
	for _, text := range []string{
		"", "\n", "GET / HTTP/1.1\r\n\r\n", `{"type":"stdin","child":"1","nonce":"guessed"}` + "\n",
		`{"type":"stdout","child":"99","nonce":"guessed"}` + "\n", `{"type":"start","child":"1","nonce":"n","process":"p"}` + "\n",
		`{"type":"hello"}` + "\n", strings.Repeat("x", 2*maxHello),
	} {
		conn, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text) // a line that is too long is cut off in the middle
		_ = conn.(*net.UnixConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if got, err := io.ReadAll(conn); len(got) != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.40q was answered with %q, %v", text, got, err)
		}
		conn.Close()
	}
	if _, err := io.WriteString(c.Stdin(), "still\n"); err != nil {
		t.Error(err)
	}
	line := make([]byte, 6)
	if _, err := io.ReadFull(c.Stdout(), line); err != nil || string(line) != "still\n" {
		t.Errorf("%q %v", line, err)
	}
	_ = c.Stdin().Close()
	closed(t, "its end", c.Exited())
}

// TestSilentConnectionsKeepNoHostOut: the oldest ones are closed, so that a host
// connects at once and not after their timeout.
func TestSilentConnectionsKeepNoHostOut(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	for range 3 * maxUnauthenticated {
		conn, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	began, clock := time.Now(), machine.Watch(t)
	p.host("one", "echo")
	c := p.start(h, "m")
	defer finish(c)
	if took := clock.Since(began); took >= 2*helloTimeout { // otherwise three times as long
		t.Errorf("the host was kept out for %v", took)
	}
	if n := h.unauthenticated.size(); n > maxUnauthenticated {
		t.Errorf("%d connections wait", n)
	}
}

// TestAStopDoesNotWaitForUnauthenticatedConnections: a silent connection is closed at
// the stop.
func TestAStopDoesNotWaitForUnauthenticatedConnections(t *testing.T) {
	p := newFolder(t)
	h, stop := p.hub()
	for range 3 {
		conn, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	wait.Until(t, "them to be in", func() bool { return h.unauthenticated.size() >= 3 })
	began, clock := time.Now(), machine.Watch(t)
	stop()
	if took := clock.Since(began); took >= helloTimeout-time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestAHostThatIsRefused: by a sidecar that gives a reason, or that has another version.
func TestAHostThatIsRefused(t *testing.T) {
	for _, c := range []struct{ answer, want string }{
		{`{"type":"refused","reason":"too many"}`, "too many"},
		{`{"type":"welcome","v":2}`, "it speaks version 2"},
	} {
		p := newFolder(t)
		l, err := net.Listen("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := l.Accept()
			if err == nil {
				_, _ = io.WriteString(conn, c.answer+"\n")
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			}
		}()
		host := p.host("one", "echo")
		closed(t, "the host's end", host.done)
		if refused, ok := errors.AsType[*RefusedError](host.err); !ok || !strings.Contains(refused.Error(), c.want) {
			t.Errorf("%v, want %q", host.err, c.want)
		}
		l.Close()
	}
}

// TestAFrozenHostIsGivenUp: a stop must not wait for it.
func TestAFrozenHostIsGivenUp(t *testing.T) {
	p := newFolder(t)
	h, _ := p.hub()
	conn, err := net.Dial("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := say(conn, message{Type: typeHello, V: 1, Name: "frozen"}); err != nil {
		t.Fatal(err)
	}
	if _, err := first(conn); err != nil {
		t.Fatal(err)
	}
	result := make(chan local.Process, 1)
	go func() {
		c, err := h.Start(context.Background(), "m")
		if err != nil {
			t.Error(err)
		}
		result <- c
	}()
	m, err := first(conn)
	if err != nil || m.Type != typeStart {
		t.Fatalf("%+v %v", m, err)
	}
	for _, kind := range []string{typeStdin, typeStdout} {
		stream, err := net.Dial("unix", p.path)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if err := say(stream, message{Type: kind, Child: m.Child, Nonce: m.Nonce}); err != nil {
			t.Fatal(err)
		}
	}
	if err := say(conn, message{Type: typeStarted, Child: m.Child, PID: 7}); err != nil {
		t.Fatal(err)
	}
	c := <-result
	defer finish(c)
	c.Signal(syscall.SIGKILL)
	closed(t, "the child's end", c.Exited())
	if !strings.Contains(p.log.String(), "does not kill what it is told to") {
		t.Errorf("%s", p.log)
	}
}

func (h *Hub) list() (all []*link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.links {
		all = append(all, l)
	}
	return all
}
