//go:build browser

package browser

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// workerVariable makes the test binary a worker.
const workerVariable = "BROWSER_TEST_WORKER"

// job is a record of these tests.
type job struct {
	TaskID    string  `json:"task_id"`
	SessionID string  `json:"session_id"`
	CreatedAt float64 `json:"created_at"`
	Do        string  `json:"do"`
	Path      string  `json:"path,omitempty"` // what has to be there, or else
}

func worker() {
	_ = protocol.Serve(context.Background(), func(ctx context.Context, t *protocol.Task) (any, error) {
		var j job
		if err := t.Decode(&j); err != nil {
			return nil, err
		}
		there := func() bool { _, err := os.Stat(j.Path); return err == nil }
		switch j.Do {
		case "fail":
			return nil, errors.New("failed: " + j.TaskID)
		case "die":
			if !there() {
				_, _ = os.Stderr.WriteString("last words of " + j.TaskID + "\n")
				os.Exit(3)
			}
		case "wait":
			t.Progress(0.4, "frame 2 of 5")
			for !there() && ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		return "done", nil
	})
}

// real is a sidecar on a real Redis, with workers of its own.
type real struct {
	*app.App
	redis  *redis.Client
	prefix string
	log    *testlog.Buffer
}

func start(t *testing.T) *real {
	t.Helper()
	server := redistest.New(t)
	r := &real{redis: server.Client(), prefix: redistest.Prefix(t), log: &testlog.Buffer{}}
	cfg := app.DefaultConfig()
	cfg.WorkerID, cfg.KeyPrefix, cfg.Redis.URL = "real-1", r.prefix, server.URL
	cfg.Log = slog.New(slog.NewTextHandler(r.log, nil))
	cfg.Slots, cfg.MaxAttempts = 2, 1
	cfg.Worker.Command = []string{os.Args[0]}
	cfg.Worker.Env = append(os.Environ(), workerVariable+"=1")
	cfg.HTTP.Addr, cfg.HTTP.AdminToken = "127.0.0.1:0", token
	a, err := app.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.App = a
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	return r
}

func (r *real) enqueue(t *testing.T, j job) {
	t.Helper()
	j.SessionID, j.CreatedAt = "session", float64(time.Now().UnixMilli())/1000
	record, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.redis.RPush(t.Context(), r.prefix+":queue", record).Err(); err != nil {
		t.Fatal(err)
	}
}

// count is how many dead letters there are.
func (r *real) count(t *testing.T) int64 {
	t.Helper()
	n, err := r.redis.ZCard(t.Context(), r.prefix+":sidecar:dead").Result()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestARealSidecar: what runs, what failed and what was given up is there, a
// script in a task id is text, and a requeue works with the token and without it
// does not.
func TestARealSidecar(t *testing.T) {
	const evil = `<img src=x onerror="document.title='owned';alert(1)"><script>alert(2)</script>`
	r := start(t)
	dir := t.TempDir()
	fixed, gate := filepath.Join(dir, "fixed"), filepath.Join(dir, "gate")
	r.enqueue(t, job{TaskID: "slow", Do: "wait", Path: gate})
	r.enqueue(t, job{TaskID: evil, Do: "die", Path: fixed})
	r.enqueue(t, job{TaskID: evil + "2", Do: "fail"})

	ctx := tab(t, 1280)
	must(t, ctx, chromedp.Navigate(r.HTTP()),
		until(`document.querySelectorAll('#dead li').length === 1`),
		until(`document.querySelectorAll('#failures li').length === 2`),
		until(`document.querySelector('#running progress')?.value === 0.4`),
		until(`document.getElementById('busy').textContent === '1'`),
		chromedp.Click(chromedp.CSS("#dead summary")), until(`document.querySelectorAll('#dead pre').length === 3`))
	body := value[string](t, ctx, `document.body.innerText`)
	for _, want := range []string{"slow", "frame 2 of 5", "real-1", "last words of " + evil, "failed: " + evil + "2", "running"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not show %q:\n%s", want, body)
		}
	}
	if n := value[int](t, ctx, `document.querySelectorAll('main img, main script').length`); n != 0 || strings.Contains(value[string](t, ctx, `document.title`), "owned") {
		t.Error("a script in a task id became part of the page")
	}

	// A wrong token does nothing.
	if err := os.WriteFile(fixed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	requeue := `[...document.querySelectorAll('#dead button')].find(b => b.textContent === 'Requeue').click()`
	must(t, ctx, does(requeue), until(`document.activeElement.id === 'token'`), typed("wrong"), chromedp.KeyEvent(kb.Enter),
		until(`document.getElementById('token-error').textContent !== ''`))
	if n := r.count(t); n != 1 {
		t.Fatalf("%d dead letters after a wrong token, want 1", n)
	}
	must(t, ctx, typed(token), chromedp.KeyEvent(kb.Enter),
		until(`document.querySelectorAll('#dead li').length === 0`),
		until(`document.getElementById('deadcount').textContent === '0'`))
	if n := r.count(t); n != 0 {
		t.Errorf("%d dead letters after the requeue", n)
	}
	// Two are done besides what still runs: what was requeued, and what failed.
	done := `document.querySelector('#fleet tbody tr td:nth-child(4)').textContent`
	must(t, ctx, until(done+`.startsWith('3')`)) // the dead one had ended, too

	// A stop is not held up by the browser.
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, ctx, until(done+`.startsWith('4')`))
	r.Stop()
	select {
	case <-r.Done():
	case <-time.After(patience / 2):
		t.Error("the open page holds up the stop")
	}
	must(t, ctx, until(`document.getElementById('live').textContent === 'offline'`))
}
