package redis

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

// Claim claims at most max records and returns them in the order of the queue: first
// those that a [Store.Wait] moved into the inbox, then those of the queue. It ends early
// at Options.MaxClaimBytes, or at 512 KiB if that is less, but not before the first
// record. A longer record is returned with its head only: see [Claimed.Length].
//
// nonce identifies the claim. After an error the same call with the same nonce returns
// the records that the first call took, if any. A new nonce while the answer to the old
// one is unknown would leave those records to [Store.Reconcile]. A run may have one
// outstanding claim at a time. Claim returns [ErrGone] for a run that is not a member.
func (s *Store) Claim(ctx context.Context, run, nonce string, max int) ([]Claimed, error) {
	t := s.claimTurn(run, nonce)
	most, head := t.reply()
	reply, err := s.call(ctx, claimScript, run, s.keys.inflight(run),
		t.n, max, s.o.MaxClaimBytes, s.floor(numbering{run: run}), most, head).Slice()
	if err != nil {
		return nil, failure("claim", err)
	}
	claimed, ok := s.claimed(run, reply, nil)
	if !ok {
		return nil, failure("claim", errReply)
	}
	return claimed, nil
}

// claimed parses the reply of the claim scripts: first sequence number, records and used
// attempts. kinds are the kinds of the records if there are several.
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
		record, length, ok := headed(r)
		if !ok {
			return nil, false
		}
		records[i] = nil // frees a large record that was copied
		seq := first + int64(i)
		all[i] = Claimed{Delivery: delivery(run, seq), Seq: seq, Record: record, Length: length}
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
		all[place-1].Losses, all[place-1].LostWithRun, all[place-1].Counted = int(losses), cause == "run", true
	}
	if len(all) > 0 {
		s.raise(numbering{run: run}, first+int64(len(all))-1)
	}
	return slices.DeleteFunc(all, func(c Claimed) bool { return c.Delivery == "" }), true
}

// headed parses a record, or the length and the head of one.
func headed(reply any) (record []byte, length int, ok bool) {
	switch r := reply.(type) {
	case string:
		return []byte(r), len(r), true
	case []any:
		if len(r) != 2 {
			return nil, 0, false
		}
		length, ok1 := r[0].(int64)
		head, ok2 := r[1].(string)
		return []byte(head), int(length), ok1 && ok2 && int64(len(head)) <= length
	default:
		return nil, 0, false
	}
}

// delivery returns the id of a delivery of a run.
func delivery(run string, seq int64) string {
	return run + "." + strconv.FormatInt(seq, 10)
}
