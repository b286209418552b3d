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

// Reap ends a dead run in one step and then returns its records to the queue
// in chunks: those of its inbox at no cost, those in flight for an attempt
// each, by the rule for shared deaths. Records out of attempts are adopted
// into the caller's in-flight hash and listed in the result; they count as
// held by the caller from then on, and the caller ends each with a dead Report.
//
// A run whose lease stands again is left alone. Two may reap the same run at
// once, and if one dies meanwhile, [TickResult.Unfinished] names the run to
// the others. The result is valid with an error too. It returns [ErrGone] if
// the caller's run is no member.
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

// Leave ends the caller's own run in good order: the same step as a death, but
// what is left goes back at no cost, and the run's keys are gone afterwards.
// No [Store.Wait] of the run may be running. A run that others have reaped is
// no error.
func (s *Store) Leave(ctx context.Context, run string) error {
	if _, err := s.retire(ctx, run, run, "clean"); err != nil {
		return failure("leave", err)
	}
	for done := false; !done; {
		var err error
		_, done, err = s.reapChunk(ctx, run, run, 1)
		if errors.Is(err, ErrGone) {
			break // reaped as dead: whoever did it returns the rest
		}
		if err != nil {
			return failure("leave", err)
		}
	}
	s.forget(run)
	return nil
}

// retire reports whether the run is no member any more.
func (s *Store) retire(ctx context.Context, self, victim, mode string) (bool, error) {
	n, err := s.call(ctx, retireScript, self, s.keys.inflight(victim), victim, mode).Int()
	return n == 1, err
}

// reapChunk returns one chunk of records of a run that has ended, and whether
// nothing is left.
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
