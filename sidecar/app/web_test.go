package app_test

import (
	"bufio"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// look opens a stream of the page and gives the lines that come, until it ends.
func look(t *testing.T, a *app.App, token string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.HTTP()+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req) //nolint:bodyclose // by the goroutine that reads it
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for r := bufio.NewReader(resp.Body); ; {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	t.Cleanup(func() {
		for range lines { // until the sidecar has ended
		}
	})
	return lines
}

// saying waits for a line with all of the words, and gives what came until then.
func saying(t *testing.T, lines <-chan string, words ...string) string {
	t.Helper()
	limit, all := time.After(30*time.Second), ""
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the stream ended without %q", words)
			}
			all += line
			found := true
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return all
			}
		case <-limit:
			t.Fatalf("nothing says %q", words)
		}
	}
}

// The page is there while Redis is not, and says so.
func TestThePageWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	log := &testlog.Buffer{}
	cfg := settings(t, redis.URL, "graflow", log)
	cfg.HTTP.Addr = "127.0.0.1:0"
	a := start(t, cfg, log)
	<-a.Ready()
	lines := look(t, a, "")
	saying(t, lines, `"redis":{"up":true}`, `"slots":4`)
	redis.Kill()
	saying(t, lines, `"up":false`, `"why":"`, `"slots":4`)
	redis.Restart()
	saying(t, lines, `"redis":{"up":true}`)
	// And an open stream holds up no stop.
	a.Stop()
	select {
	case <-a.Done():
	case <-time.After(20 * time.Second): // of a budget of 25
		t.Error("the open stream holds up the stop")
	}
}

// On an address that others reach, a record's text is shown with the token only.
func TestCountsOnlyOnANetworkAddress(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := setup(t, func(c *config.Config) {
		c.HTTP = config.HTTP{Addr: "0.0.0.0:0", AdminTokenFile: file}
	})
	b.push(job{TaskID: "confidential", SessionID: "s", Do: "fail"})
	with := look(t, b.app, "from-a-file")
	saying(t, with, `"level":"admin"`)
	saying(t, with, "confidential", "no luck")
	without := look(t, b.app, "")
	var said strings.Builder
	said.WriteString(saying(t, without, `"level":"counts"`))
	for range 3 { // seconds
		said.WriteString(saying(t, without, `"depth":`))
	}
	if strings.Contains(said.String(), "confidential") || strings.Contains(said.String(), "event: failures") {
		t.Errorf("shown without the token:\n%s", said.String())
	}
}

func TestWhatCannotBeServed(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.HTTP.Addr = "127.0.0.1:0" })
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]config.HTTP{
		"an address that is taken":     {Addr: strings.TrimPrefix(b.app.HTTP(), "http://")},
		"a token file that is empty":   {Addr: "127.0.0.1:0", AdminTokenFile: empty},
		"a token file that is missing": {Addr: "127.0.0.1:0", AdminTokenFile: empty + "-not"},
	} {
		log := &testlog.Buffer{}
		cfg := settings(t, redistest.New(t).URL, b.prefix, log)
		cfg.HTTP = h
		a, err := app.Start(t.Context(), cfg)
		if err == nil {
			_ = a.Close()
		}
		if _, is := errors.AsType[*config.Error](err); !is {
			t.Errorf("%s: %v, want a configuration error", name, err)
		}
	}
}
