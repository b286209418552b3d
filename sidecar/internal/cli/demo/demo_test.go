package demo

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestTheDemoEndsWithItsRedis: a barrier that cannot be reached any more is not waited for.
func TestTheDemoEndsWithItsRedis(t *testing.T) {
	var log testlog.Buffer
	cfg := app.DefaultConfig()
	cfg.WorkerID, cfg.Mode, cfg.Log = "demo", config.ModeExec, slog.New(slog.NewTextHandler(&log, nil))
	ended := make(chan error, 1)
	go func() {
		ended <- Run(t.Context(), Options{Config: cfg, Out: io.Discard, Workers: []Worker{{
			Name: "w", Groups: 1, Size: 2,
			Setup: func(w *config.Worker) { w.Command = []string{"/bin/sh", "-c", "sleep 600"} },
			Task:  func(int) (string, any) { return "sleep", nil },
		}}})
	}()
	address := regexp.MustCompile(`url=redis://([^/ ]+)`)
	for pushed := command("EVAL", allRecords, "0"); ; time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("ended before its Redis did: %v\n%s", err, log.String())
		default:
		}
		if found := address.FindStringSubmatch(log.String()); found != nil && ask(t, found[1], pushed) == ":2" {
			ask(t, found[1], command("SHUTDOWN", "NOSAVE"))
			break
		}
	}
	err := <-ended
	if lost, is := errors.AsType[*app.LocalRedisError](err); !is || !errors.Is(err, errEnded) {
		t.Errorf("ended with %v (%v)", err, lost)
	}
}

// allRecords counts the records of the group: those that wait, and those in flight.
const allRecords = `
local n = redis.call('LLEN', 'demo:w:queue')
for _, key in ipairs(redis.call('KEYS', 'demo:w:sidecar:inflight:*')) do
	n = n + redis.call('HLEN', key)
end
return n`

// command encodes one command of Redis' protocol.
func command(args ...string) string {
	var text strings.Builder
	fmt.Fprintf(&text, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(a), a)
	}
	return text.String()
}

// ask returns the first line of a reply, "" where none comes.
func ask(t *testing.T, addr, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	var line string
	_, _ = fmt.Fscanln(conn, &line) // a shutdown answers nothing
	return strings.TrimSpace(line)
}
