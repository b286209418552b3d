package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
)

// hanging is a Redis call that does not come back.
type hanging struct{ claim.Source }

func (hanging) Wait(ctx context.Context) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

type fullRoom struct{ claim.Room }

func (fullRoom) Want(ctx context.Context) (int, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestPulse(t *testing.T) {
	for _, test := range []struct {
		name          string
		hang          func(ctx context.Context, p *pulse)
		excused, busy bool
		want          time.Duration
	}{
		{"before its first step", func(context.Context, *pulse) {}, false, false, 0},
		{"in a call", func(ctx context.Context, p *pulse) { _, _ = felt{hanging{}, p}.Wait(ctx) }, false, false, time.Minute},
		{"in a call, with tasks running", func(ctx context.Context, p *pulse) { _, _ = felt{hanging{}, p}.Wait(ctx) }, false, true, time.Minute},
		{"in a call, redis is away", func(ctx context.Context, p *pulse) { _, _ = felt{hanging{}, p}.Wait(ctx) }, true, false, 0},
		{"waiting for slots that are taken", func(ctx context.Context, p *pulse) { _, _ = feltRoom{fullRoom{}, p}.Want(ctx) }, false, true, 0},
		{"waiting for slots that are free", func(ctx context.Context, p *pulse) { _, _ = feltRoom{fullRoom{}, p}.Want(ctx) }, false, false, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				p := &pulse{}
				go test.hang(ctx, p)
				synctest.Wait()
				time.Sleep(time.Minute)
				if got := p.still(test.excused, test.busy); got != test.want {
					t.Errorf("still for %v, want %v", got, test.want)
				}
			})
		})
	}
}

// What ended an excuse is where the time begins to count.
func TestPulseAfterAnExcuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulse{}
		p.step(false)
		time.Sleep(time.Hour)
		p.still(true, false)
		time.Sleep(time.Second)
		if got := p.still(false, false); got != time.Second {
			t.Errorf("still for %v a second after redis was back", got)
		}
	})
}
