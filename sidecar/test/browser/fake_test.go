//go:build browser

package browser

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// fake is a fleet that is busy: the page's two interfaces with made-up contents.
type fake struct {
	began time.Time

	mu      sync.Mutex
	looks   int
	letters []fleet.DeadLetter
	err     error
	paused  bool
	problem string // of the second sidecar
	did     []string
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

var names = []string{"render_frame", "embed_batch", "transcode", "score_model", "fetch_pages", "build_index"}

var groups = map[string]string{
	"render_frame": "frames", "embed_batch": "embeddings", "transcode": "media",
	"score_model": "scores", "fetch_pages": "pages", "build_index": "indexes",
}

// run is a run with some of its slots busy.
func (f *fake) run(n, busy int) fleet.Run {
	now := time.Now()
	r := fleet.Run{
		ID: fmt.Sprintf("worker-%d-%032x", n, 0x9f3c41d2+n), WorkerID: fmt.Sprintf("worker-%d", n),
		Host: fmt.Sprintf("render-7d9c%d", n), PID: 7, Version: "0.1.0", Mode: "rpc",
		Command: "python3 -m graflow_sidecar.graflow", State: "running", Since: f.began.Add(-time.Duration(n+1) * 3 * time.Hour),
		Seen: now, HTTP: fmt.Sprintf("http://10.2.0.%d:8000", 10+n), Slots: 4, Busy: busy, Waiting: n % 2,
		Completed: int64(18000+3000*n) + f.work(), Failed: int64(3+11*n) + f.work()/40,
	}
	for slot := range 4 {
		c := fleet.Child{Slot: slot, PID: 20 + slot, State: "serving"}
		if slot < busy {
			name := names[(n*3+slot)%len(names)]
			t := fleet.Task{
				TaskID: fmt.Sprintf("%s_%04d", name, 1400+37*n+slot), SessionID: "nightly-2026-11-24", GroupID: groups[name],
				Delivery: fmt.Sprintf("%s.%d", r.ID, 900+slot), Attempt: 1 + (n+slot)%5/4, Since: f.began.Add(-time.Duration(slot*slot+2*n+1) * 9 * time.Second),
			}
			switch (n + slot) % 4 {
			case 0:
				t.Progress, t.Message = new(0.62), "frame 372 of 600"
			case 1:
				t.Progress, t.Message = new(0.27), "epoch 3 of 11, loss 0.184"
			case 2:
				t.Progress = new(0.91)
			default:
				t.Waiting, t.Message = true, "for the barrier of "+groups[name]
			}
			c.Tasks = []fleet.Task{t}
		}
		r.Children = append(r.Children, c)
	}
	return r
}

// work is what each has done since the test began: not always as quickly.
func (f *fake) work() int64 {
	x := float64(f.looks)
	return int64(0.6*x + 14*math.Sin(x/47) + 2*math.Sin(x/13))
}

func (f *fake) Self() fleet.Run {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.run(0, 2)
}

func (f *fake) Overview(context.Context) (fleet.Queue, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	x := float64(f.looks)
	wave := math.Sin(x/61) + math.Sin(x/23)/3 + math.Sin(x/7)/12
	return fleet.Queue{
		Depth: int64(128 + 60*wave), Oldest: new(7400 * time.Millisecond), Delayed: 3, InFlight: 7,
		Dead: int64(len(f.letters)), Paused: f.paused,
	}, f.err
}

func (f *fake) Fleet(context.Context) ([]fleet.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	paused := f.run(2, 1)
	paused.Paused, paused.State = true, "quiet"
	second := f.run(1, 3)
	second.Problem = f.problem
	return []fleet.Run{f.run(0, 2), second, paused}, f.err
}

func (f *fake) DeadLetters(_ context.Context, limit int) ([]fleet.DeadLetter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]fleet.DeadLetter(nil), f.letters[:min(limit, len(f.letters))]...), f.err
}

func (f *fake) DeadLetter(_ context.Context, id string) (fleet.DeadLetter, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.letters {
		if l.ID == id {
			return l, true, f.err
		}
	}
	return fleet.DeadLetter{}, false, f.err
}

func (f *fake) act(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did = append(f.did, what)
	return f.err
}

func (f *fake) Requeue(_ context.Context, id string, force bool) (fleet.Requeued, error) {
	return fleet.RequeueDone, f.act(fmt.Sprint("requeue ", id, " ", force))
}
func (f *fake) Drop(_ context.Context, id string) (bool, error) { return true, f.act("drop " + id) }
func (f *fake) Pause(_ context.Context, run, _ string) error    { return f.act("pause " + run) }
func (f *fake) Unpause(_ context.Context, run string) error     { return f.act("unpause " + run) }
func (f *fake) Order(_ context.Context, run string, o fleet.Command) error {
	return f.act(o.Action + " " + run)
}
