package store

import (
	"context"
	_ "embed" // the scripts
	"slices"
	"strconv"
)

//go:embed claiming.lua
var claimingLua string

//go:embed claim.lua
var claimLua string
var claimScript = script(claimingLua, claimLua)

// Claim makes at most max records the run's own and returns them in the order
// of the queue: first those that a [Store.Wait] brought, then the queue's. It
// stops early at Options.MaxClaimBytes, but never before the first record.
//
// nonce names this claim. After an error the same call with the same nonce
// returns the records that the first try took, if it took any; a new nonce
// while the answer to the old one is unknown would leave those to
// [Store.Reconcile]. One claim of a run may be outstanding at a time. It
// returns [ErrGone] for a run that is no member.
func (s *Store) Claim(ctx context.Context, run, nonce string, max int) ([]Claimed, error) {
	reply, err := s.call(ctx, claimScript, run, s.keys.inflight(run),
		s.turn(run, nonce), max, s.o.MaxClaimBytes, s.floor(numbering{run: run})).Slice()
	if err != nil {
		return nil, failure("claim", err)
	}
	claimed, ok := s.claimed(run, reply, nil)
	if !ok {
		return nil, failure("claim", errReply)
	}
	return claimed, nil
}

// claimed reads the scripts' reply: first sequence number, records, attempts; and
// the records' kinds where there are several.
func (s *Store) claimed(run string, reply, kinds []any) ([]Claimed, bool) {
	if len(reply) != 3 {
		return nil, false
	}
	first, ok1 := reply[0].(int64)
	records, ok2 := reply[1].([]any)
	used, ok3 := reply[2].([]any)
	const fields = 3
	if !ok1 || !ok2 || !ok3 || len(used)%fields != 0 || kinds != nil && len(kinds) != len(records) {
		return nil, false
	}
	all := make([]Claimed, len(records))
	for i, r := range records {
		if r == nil {
			continue
		}
		record, ok := r.(string)
		if !ok {
			return nil, false
		}
		records[i] = nil // a large one is not to be there twice for longer than this
		seq := first + int64(i)
		all[i] = Claimed{Delivery: delivery(run, seq), Seq: seq, Record: []byte(record)}
		if kinds != nil {
			if all[i].Kind, ok = kindOf(kinds[i]); !ok {
				return nil, false
			}
		}
	}
	for ; len(used) > 0; used = used[fields:] {
		place, ok1 := used[0].(int64)
		losses, ok2 := used[1].(int64)
		cause, ok3 := used[2].(string)
		if !ok1 || !ok2 || !ok3 || place < 1 || place > int64(len(all)) {
			return nil, false
		}
		all[place-1].Losses, all[place-1].LoneRun = int(losses), cause == "run"
	}
	if len(all) > 0 {
		s.raise(numbering{run: run}, first+int64(len(all))-1)
	}
	return slices.DeleteFunc(all, func(c Claimed) bool { return c.Delivery == "" }), true
}

// delivery is the id of a run's delivery.
func delivery(run string, seq int64) string {
	return run + "." + strconv.FormatInt(seq, 10)
}
