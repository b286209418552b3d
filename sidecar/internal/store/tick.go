package store

import (
	"context"
	_ "embed" // the script
	"time"
)

//go:embed tick.lua
var tickLua string
var tickScript = script(tickLua)

// scanAge is how old a scan of the members may be that serves another sidecar
// too: of however many there are, two a second look at all.
const scanAge = 500 * time.Millisecond

// watchers is how many sidecars are told of an absent run: each counts for
// itself, so that all of them would have to die within those three seconds for
// the count to begin again.
const watchers = 8

// Tick does the chores of one second for everybody: it names the member runs
// whose lease has run out and that the caller watches, never the caller's, hands
// back delayed records that are due and records in the inboxes of runs that are
// gone, and forgets gone runs after an hour and attempts after a day. It also
// says what people want of the caller: whether it is paused, and orders, which
// are taken by that. The work of one call is bounded, but for the scan of the
// members, which the callers of half a second share; no caller is told of one
// scan twice. It returns [ErrGone] if the caller's run is no member.
func (s *Store) Tick(ctx context.Context, run string) (TickResult, error) {
	reply, err := s.call(ctx, tickScript, run, s.keys.alive(run),
		chunkRecords, s.o.MaxClaimBytes, goneKeep.Milliseconds(), attemptsKeep.Milliseconds(), chunkIDs,
		s.lastScan(run), scanAge.Milliseconds(), watchers, chunkOrders).Slice()
	if err != nil {
		return TickResult{}, failure("tick", err)
	}
	if len(reply) != 8 {
		return TickResult{}, failure("tick", errReply)
	}
	promoted, ok1 := reply[0].(int64)
	drained, ok2 := reply[1].(int64)
	absent, ok3 := texts(reply[2])
	unfinished, ok4 := texts(reply[3])
	scan, ok5 := reply[4].(string)
	paused, ok6 := reply[5].(int64)
	allPaused, ok7 := reply[6].(int64)
	orders, ok8 := texts(reply[7])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 {
		return TickResult{}, failure("tick", errReply)
	}
	s.scanned(run, scan)
	return TickResult{
		Absent: absent, Unfinished: unfinished, Promoted: int(promoted), Drained: int(drained),
		Paused: paused == 1, AllPaused: allPaused == 1, Orders: decodeOrders(orders),
	}, nil
}

func (s *Store) lastScan(run string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scans[run]
}

func (s *Store) scanned(run, scan string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scans[run] = scan
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
