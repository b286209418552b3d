package redis

import (
	"context"
	_ "embed" // the script
	"time"
)

//go:embed tick.lua
var tickLua string
var tickScript = script(tickLua)

// Bounds of the search for runs that Redis has forgotten.
const (
	searchKeys = 1000 // with each look
	searchRest = 60   // looks between one search and the next
)

// A run is dead when its lease has been seen to be missing for absence, at
// looks of which each came at most maxGap after the one before: at three or more.
// The first look after a longer gap, an outage perhaps, gives everybody grace to
// come back and renew. All by Redis' clock; looks come minGap apart at least,
// however many sidecars tick.
const (
	minGap  = 500 * time.Millisecond
	maxGap  = 1500 * time.Millisecond
	absence = maxGap + time.Millisecond // never two looks: three of one sidecar, more of a fleet
	grace   = time.Second
)

// Tick does the chores of one second for everybody. It renews the caller's lease
// as [Store.RenewAs] does, hands back delayed records that are due and records in
// the inboxes of runs that are gone, and forgets gone runs after an hour and
// attempts after a day. It names the member runs that the caller is to reap, never
// itself. It also says what people want of the caller: whether it is paused, and
// orders, which are taken by that. The work of one call is bounded, but for the
// look at all members. It returns [ErrGone] if the caller's run is no member.
func (s *Store) Tick(ctx context.Context, run string, about []byte, label string) (TickResult, error) {
	began, since := s.lastTick(run)
	reply, err := s.call(ctx, tickScript, run, s.keys.alive(run), about, label,
		chunkRecords, s.o.MaxClaimBytes, goneKeep.Milliseconds(), attemptsKeep.Milliseconds(), chunkIDs,
		minGap.Milliseconds(), maxGap.Milliseconds(), absence.Milliseconds(), grace.Milliseconds(), chunkOrders,
		began, since, searchKeys, searchRest).Slice()
	if err != nil {
		return TickResult{}, failure("tick", err)
	}
	if len(reply) != 11 {
		return TickResult{}, failure("tick", errReply)
	}
	promoted, ok1 := reply[0].(int64)
	drained, ok2 := reply[1].(int64)
	dead, ok3 := texts(reply[2])
	unfinished, ok4 := texts(reply[3])
	inFlight, ok5 := reply[4].(int64)
	paused, ok6 := reply[5].(int64)
	allPaused, ok7 := reply[6].(int64)
	orders, ok8 := texts(reply[7])
	unrouted, ok9 := reply[8].(int64)
	clock, ok10 := reply[9].(int64)
	isolated, ok11 := reply[10].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 || !ok9 || !ok10 || !ok11 {
		return TickResult{}, failure("tick", errReply)
	}
	s.ticked(run, clock)
	return TickResult{
		Dead: dead, Unfinished: unfinished, Promoted: int(promoted), Drained: int(drained), InFlight: int(inFlight),
		Paused: paused == 1, AllPaused: allPaused == 1, Orders: decodeOrders(orders), Unrouted: int(unrouted),
		Isolated: int(isolated),
	}, nil
}

// ticking is what Redis' clock said at a run's last tick, and when that was by ours,
// which does not step.
type ticking struct {
	clock int64 // ms
	at    time.Time
}

// lastTick is Redis' clock then and how many ms ago that was; "" and 0 for none.
func (s *Store) lastTick(run string) (clock any, ms int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.ticks[run]
	if !ok {
		return "", 0
	}
	return t.clock, time.Since(t.at).Milliseconds()
}

func (s *Store) ticked(run string, clock int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.ticks) // a sidecar has one run at a time
	s.ticks[run] = ticking{clock, time.Now()}
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
