package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// pulse is what the claim loop is doing and since when. A loop that hangs says
// nothing, so somebody else has to be able to ask.
type pulse struct {
	mu      sync.Mutex
	begun   time.Time // what it does now; zero before its first step
	waits   bool      // for a free slot, which may take as long as tasks do
	excused time.Time // when there was last a reason to stand still
}

func (p *pulse) step(waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.waits = time.Now(), waits
}

// still is how long the loop has stood still for no reason. busy says that its
// slots are not its to fill, which only excuses one that waits for them;
// excused, that it need not do anything.
func (p *pulse) still(excused, busy bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.begun.IsZero() || excused || p.waits && busy {
		p.excused = now
		return 0
	}
	if p.excused.After(p.begun) {
		return now.Sub(p.excused)
	}
	return now.Sub(p.begun)
}

// felt is a claim loop's source whose every step counts.
type felt struct {
	claim.Source
	pulse *pulse
}

func (f felt) Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error) {
	f.pulse.step(false)
	return f.Source.Claim(ctx, nonce, limit)
}

func (f felt) Wait(ctx context.Context) (bool, error) {
	f.pulse.step(false)
	return f.Source.Wait(ctx)
}

func (f felt) Recover(ctx context.Context, err error) error {
	f.pulse.step(false)
	return f.Source.Recover(ctx, err)
}

// feltRoom is the same for where its tasks go.
type feltRoom struct {
	claim.Room
	pulse *pulse
}

func (f feltRoom) Want(ctx context.Context) (int, error) {
	f.pulse.step(true)
	return f.Room.Want(ctx)
}

func (f feltRoom) Put(ts []task.Task) {
	f.pulse.step(false)
	f.Room.Put(ts)
}

// stillFor is how long a claim loop that is well may stand still: the longest
// that one call to Redis takes, where go-redis adds ten seconds to the wait for
// a blocked one.
func (r RedisConfig) stillFor() time.Duration {
	return r.DialTimeout + r.ReadTimeout + r.WriteTimeout + 15*time.Second
}

// Stuck says in words that the loop that takes tasks no longer moves though it
// should; "" while it does. A Redis that is away, slots that are taken, a pause
// and a stop are no such reasons. It is a question for a watchdog, to be asked
// every few seconds; where a lock is what is stuck, it does not return.
func (a *App) Stuck() string {
	if a.cfg.Mode == ModeSupervise {
		return "" // the workers take their tasks themselves
	}
	counts := a.queue.Counts()
	excused := a.mon.Lost() || a.queue.IsQuiet() || a.queue.Halted()
	busy := counts.Running > 0 || counts.Capacity == 0
	if still := a.pulse.still(excused, busy); still > a.cfg.Redis.stillFor() {
		return fmt.Sprintf("the claim loop has not moved for %v", still.Round(time.Second))
	}
	return ""
}
