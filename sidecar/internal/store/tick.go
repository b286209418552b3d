package store

import (
	"context"
	_ "embed" // the script
)

//go:embed tick.lua
var tickLua string
var tickScript = script(tickLua)

// Tick does the chores of one second for everybody: it names the member runs
// whose lease has run out, never the caller's, hands back delayed records that
// are due and records in the inboxes of runs that are gone, and forgets gone
// runs after an hour and attempts after a day. It also says what people want of
// the caller: whether it is paused, and orders, which are taken by that. The work
// of one call is bounded. It returns [ErrGone] if the caller's run is no member.
func (s *Store) Tick(ctx context.Context, run string) (TickResult, error) {
	reply, err := s.call(ctx, tickScript, run, s.keys.alive(run),
		chunkRecords, s.o.MaxClaimBytes, goneKeep.Milliseconds(), attemptsKeep.Milliseconds(), chunkIDs, chunkOrders).Slice()
	if err != nil {
		return TickResult{}, failure("tick", err)
	}
	if len(reply) != 7 {
		return TickResult{}, failure("tick", errReply)
	}
	promoted, ok1 := reply[0].(int64)
	drained, ok2 := reply[1].(int64)
	absent, ok3 := texts(reply[2])
	unfinished, ok4 := texts(reply[3])
	paused, ok5 := reply[4].(int64)
	allPaused, ok6 := reply[5].(int64)
	orders, ok7 := texts(reply[6])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 {
		return TickResult{}, failure("tick", errReply)
	}
	return TickResult{
		Absent: absent, Unfinished: unfinished, Promoted: int(promoted), Drained: int(drained),
		Paused: paused == 1, AllPaused: allPaused == 1, Orders: decodeOrders(orders),
	}, nil
}

// texts is a reply that must be a list of strings.
func texts(reply any) ([]string, bool) {
	list, ok := reply.([]any)
	if !ok {
		return nil, false
	}
	var all []string
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return nil, false
		}
		all = append(all, text)
	}
	return all, true
}
