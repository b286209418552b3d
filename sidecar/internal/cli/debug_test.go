package cli

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

func TestProfilesAreServed(t *testing.T) {
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	stop, err := serveProfiles("127.0.0.1:0", log)
	if err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`http://\S+/debug/pprof/`).FindString(text.String())
	answer, err := http.Get(url + "goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || !strings.Contains(string(body), "goroutine profile") {
		t.Errorf("%v: %.100s", err, body)
	}
	http.DefaultClient.CloseIdleConnections()

	// A page of another site whose name leads here reads nothing.
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	answer, err = http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("another site's name is answered %d", answer.StatusCode)
	}
	http.DefaultClient.CloseIdleConnections()

	// A port that is taken is the user's to mend.
	_, err = serveProfiles(strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/debug/pprof/"), log)
	if _, ok := errors.AsType[*config.Error](err); !ok || !strings.Contains(err.Error(), "SIDECAR_DEBUG_ADDR") {
		t.Errorf("a port that is taken: %v", err)
	}
	stop()
	if answer, err := http.Get(url); err == nil {
		answer.Body.Close()
		t.Error("it still answers")
	}
}

func TestNoProfilesUnlessAsked(t *testing.T) {
	stop, err := serveProfiles("", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop()
}
