package redis

import (
	"context"
	_ "embed" // the script
	"time"
)

//go:embed part.lua
var partLua string
var partScript = script(partLua)

const (
	// PartBytes is the size of the parts that [Store.RecordParts] reads; the last one may
	// be shorter.
	PartBytes = 64 << 10
	// MaxParts is the maximum number of parts of one call.
	MaxParts = maxReply / PartBytes
)

// partsKeep is the retention of the parts between two calls.
const partsKeep = 15 * time.Second

// RecordParts reads at most n parts of the record of a delivery in flight, from part
// first, counted from 0. It returns their bytes; none if the delivery is not in flight or
// has no such part. A call may be repeated.
func (s *Store) RecordParts(ctx context.Context, run, delivery string, first, n int) ([]byte, error) {
	parts, err := s.call(ctx, partScript, run, s.keys.inflight(run),
		delivery, first, min(max(n, 1), MaxParts), PartBytes, partsKeep.Milliseconds()).StringSlice()
	if err != nil {
		return nil, failure("record", err)
	}
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	b := make([]byte, 0, size)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b, nil
}
