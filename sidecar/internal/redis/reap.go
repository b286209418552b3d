package redis

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
)

//go:embed retire.lua
var retireLua string
var retireScript = script(retireLua)

//go:embed reap.lua
var reapLua string
var reapScript = script(reapLua)

// Reap ends a dead run in one step and then requeues its records in chunks: those of its
// inbox at no cost, those in flight for an attempt each, by the rule for shared losses.
// Records without attempts left are adopted into the caller's in-flight hash and returned
// in the result; the caller ends each with a dead Report.
//
// Reap does nothing for a run whose lease is valid. Two sidecars may reap the same run;
// if one of them dies meanwhile, [TickResult.Unfinished] names the run to the others. The
// result is valid with an error too. Reap returns [ErrGone] if the caller's run is not a
// member.
func (s *Store) Reap(ctx context.Context, self, dead string, maxAttempts int) (ReapResult, error) {
	if self == dead {
		return ReapResult{}, errors.New("reap: a run cannot reap itself")
	}
	ended, err := s.retire(ctx, self, dead, "dead")
	if err != nil || !ended {
		return ReapResult{}, failure("reap", err)
	}
	var all ReapResult
	for done := false; !done; {
		var chunk ReapResult
		chunk, done, err = s.reapChunk(ctx, self, dead, maxAttempts)
		if err != nil {
			return all, failure("reap", err)
		}
		all.Returned += chunk.Returned
		all.Exhausted = append(all.Exhausted, chunk.Exhausted...)
	}
	return all, nil
}

// Leave ends the caller's own run: its remaining records are requeued at no cost, and its
// keys are deleted. No [Store.Wait] of the run may be running. It is no error if other
// sidecars have reaped the run.
func (s *Store) Leave(ctx context.Context, run string) error {
	if _, err := s.retire(ctx, run, run, "clean"); err != nil {
		return failure("leave", err)
	}
	for done := false; !done; {
		var err error
		_, done, err = s.reapChunk(ctx, run, run, 1)
		if errors.Is(err, ErrGone) {
			break // another sidecar has reaped the run and requeues the rest
		}
		if err != nil {
			return failure("leave", err)
		}
	}
	s.forget(run)
	return nil
}

// retire removes a run from the members. It reports whether the run is not a member any
// more.
func (s *Store) retire(ctx context.Context, self, victim, mode string) (bool, error) {
	n, err := s.call(ctx, retireScript, self, s.keys.inflight(victim), victim, mode).Int()
	return n == 1, err
}

// reapChunk requeues one chunk of records of an ended run, and reports whether nothing is
// left.
func (s *Store) reapChunk(ctx context.Context, self, victim string, maxAttempts int) (ReapResult, bool, error) {
	reply, err := s.call(ctx, reapScript, self, s.keys.inflight(victim),
		victim, chunkRecords, s.o.MaxClaimBytes, max(maxAttempts, 1), s.floor(numbering{self, true}), maxHead, maxReply).Slice()
	if err != nil {
		return ReapResult{}, false, failure("chunk", err)
	}
	const head, fields = 2, 3
	if len(reply) < head || (len(reply)-head)%fields != 0 {
		return ReapResult{}, false, errReply
	}
	done, ok1 := reply[0].(int64)
	returned, ok2 := reply[1].(int64)
	if !ok1 || !ok2 {
		return ReapResult{}, false, errReply
	}
	result := ReapResult{Returned: int(returned)}
	for rest := reply[head:]; len(rest) > 0; rest = rest[fields:] {
		seq, ok1 := rest[0].(int64)
		record, length, ok2 := headed(rest[1])
		losses, ok3 := rest[2].(int64)
		if !ok1 || !ok2 || !ok3 {
			return ReapResult{}, false, fmt.Errorf("adopted record: %w", errReply)
		}
		result.Exhausted = append(result.Exhausted,
			Adopted{Delivery: delivery(self, seq), Seq: seq, Record: record, Length: length, Losses: int(losses)})
		s.raise(numbering{self, true}, seq)
	}
	return result, done == 1, nil
}
