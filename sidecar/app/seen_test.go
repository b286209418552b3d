package app_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// get asks the sidecar over a connection of its own.
func (b *bundle) get(path string) (int, string) {
	b.t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(b.app.HTTP() + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func answering(c *config.Config) { c.HTTP.Addr, c.Slots = "127.0.0.1:0", 2 }

// TestASidecarIsSeen: over HTTP and in the registry, for as long as it is there.
func TestASidecarIsSeen(t *testing.T) {
	t.Parallel()
	b := setup(t, answering)
	<-b.app.Ready()
	b.push(job{TaskID: "a", SessionID: "s"})
	await(t, "the task to be counted", func() bool {
		_, text := b.get("/metrics")
		return strings.Contains(text, `graflow_sidecar_tasks_total{outcome="success"} 1`)
	})
	await(t, "all workers", func() bool { return b.app.Status().Ready })
	for _, path := range []string{"/livez", "/readyz", "/startupz"} {
		if status, text := b.get(path); status != 200 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	var self fleet.Run
	if _, text := b.get("/status"); json.Unmarshal([]byte(text), &self) != nil || self.Completed != 1 || self.Slots != 2 || self.State != "running" || len(self.Children) == 0 {
		t.Errorf("/status: %s", text)
	}

	ctx, info := t.Context(), b.prefix+":sidecar:info:"+self.ID
	said, err := b.rdb.Get(ctx, info).Result()
	var entry fleet.Run
	if err != nil || json.Unmarshal([]byte(said), &entry) != nil || entry.ID != self.ID || entry.HTTP != b.app.HTTP() {
		t.Errorf("the registry says %q, %v", said, err)
	}
	if left := b.rdb.PTTL(ctx, info).Val(); left <= 0 || left > 6*time.Second {
		t.Errorf("its entry ends in %v, not with its lease", left)
	}
	workers, err := b.rdb.SMembers(ctx, b.prefix+":workers").Result()
	if err != nil || len(workers) != 1 || !strings.HasSuffix(workers[0], ":"+self.ID) {
		t.Errorf("the set of workers: %v, %v", workers, err)
	}

	if err := b.app.Close(); err != nil {
		t.Error(err)
	}
	if answer, err := http.Get(b.app.HTTP() + "/livez"); err == nil {
		answer.Body.Close()
		t.Error("it still answers")
	}
	if n := b.rdb.Exists(ctx, info, b.prefix+":workers").Val(); n != 0 {
		t.Error("it left, and its entries are still there")
	}
}

// TestADrainingSidecarSaysSo while its last task runs.
func TestADrainingSidecarSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t, answering)
	gate := t.TempDir() + "/gate"
	b.push(job{TaskID: "a", SessionID: "s", Do: "gate", Path: gate})
	await(t, "the task to run", func() bool { return b.app.Status().InFlight == 1 })
	b.app.Stop()
	if status, text := b.get("/readyz"); status != 503 || !strings.Contains(text, "stopping") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if status, text := b.get("/livez"); status != 200 {
		t.Errorf("/livez: %d %s", status, text)
	}
	if _, text := b.get("/metrics"); !strings.Contains(text, "graflow_sidecar_draining 1\n") {
		t.Error("/metrics does not say that it drains")
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.app.Wait(); err != nil {
		t.Error(err)
	}
}

// TestWhyASidecarIsNotReady is said in its entry of the registry, too: a list of
// sidecars that all run must show the one that does not work.
func TestWhyASidecarIsNotReady(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { answering(c); crashing(c) })
	await(t, "the crash loop", func() bool { return b.app.Status().CrashLoop })
	if status, text := b.get("/readyz"); status != 503 || !strings.Contains(text, "the workers keep dying") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if status, text := b.get("/livez"); status != 200 {
		t.Errorf("/livez: %d %s: a new process would not help", status, text)
	}
	var self fleet.Run
	if _, text := b.get("/status"); json.Unmarshal([]byte(text), &self) != nil || !strings.Contains(self.Problem, "the workers keep dying") {
		t.Errorf("says of itself: %q", self.Problem)
	}
}

func TestAnAddressThatIsTakenIsAConfigError(t *testing.T) {
	t.Parallel()
	b := setup(t, answering)
	cfg := settings(t, "redis://127.0.0.1:1", b.prefix, b.log)
	cfg.HTTP.Addr = strings.TrimPrefix(b.app.HTTP(), "http://")
	_, err := app.Start(t.Context(), cfg)
	if _, ok := errors.AsType[*config.Error](err); !ok || !strings.Contains(err.Error(), "SIDECAR_HTTP_ADDR") {
		t.Errorf("%v", err)
	}
}
