package tasks

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/graflow/graflow-sidecar/protocol"
)

// batch is how many points are thrown between two looks at the context.
const batch = 1 << 16

type piParams struct {
	// Samples is how many points are thrown; a million if absent.
	Samples int64 `json:"samples"`
	// Seed makes runs differ; the same seed gives the same value.
	Seed uint64 `json:"seed"`
}

type piValue struct {
	Pi      float64 `json:"pi"`
	Inside  int64   `json:"inside"`
	Samples int64   `json:"samples"`
}

// pi estimates π from how many random points of a square lie in its circle.
func pi(ctx context.Context, t *protocol.Task, p piParams) (any, error) {
	if p.Samples == 0 {
		p.Samples = 1_000_000
	}
	if p.Samples < 0 {
		return nil, fmt.Errorf("params: samples is %d; it must be above 0", p.Samples)
	}
	rng := rand.New(rand.NewPCG(p.Seed, 0))
	var inside int64
	for done := int64(0); done < p.Samples; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for range min(batch, p.Samples-done) {
			x, y := rng.Float64(), rng.Float64()
			if x*x+y*y < 1 {
				inside++
			}
			done++
		}
		t.Progress(float64(done)/float64(p.Samples), fmt.Sprintf("%d of %d points", done, p.Samples))
	}
	return piValue{Pi: 4 * float64(inside) / float64(p.Samples), Inside: inside, Samples: p.Samples}, nil
}
