package redis

import (
	"context"
	_ "embed" // the script
	"time"
)

//go:embed tick.lua
var tickLua string
var tickScript = script(formatLua, tickLua)

// Bounds of the search for runs that Redis has forgotten.
const (
	searchKeys = 1000 // keys for each check
	searchRest = 60   // checks between two searches
)

// A run is dead if its lease was missing for absence over checks that were at most maxGap
// apart, which are three or more. The first check after a longer gap, such as an outage,
// gives all runs grace to renew. Times are by Redis' clock; checks are at least minGap
// apart, for any number of sidecars.
const (
	minGap  = 500 * time.Millisecond
	maxGap  = 1500 * time.Millisecond
	absence = maxGap + time.Millisecond // never two checks: three of one sidecar, more of a fleet
	grace   = time.Second
)

// Tick does the chores of one second for all sidecars. It renews the caller's lease as
// [Store.RenewAs] does, requeues due delayed records and records in the inboxes of gone
// runs, and forgets gone runs after an hour and attempts after a day. It returns the
// member runs that the caller has to reap, never the caller itself, whether the caller is
// paused, and its commands, which it removes. The work of one call is bounded, except for
// the check of all members. Tick returns [ErrGone] if the caller's run is not a member, and
// a [*FormatError] if other sidecars write a format that this version does not know.
func (s *Store) Tick(ctx context.Context, run string, about []byte, label string) (TickResult, error) {
	began, since := s.lastTick(run)
	reply, err := s.call(ctx, tickScript, run, s.keys.alive(run), about, label,
		chunkRecords, s.o.MaxClaimBytes, goneKeep.Milliseconds(), attemptsKeep.Milliseconds(), chunkIDs,
		minGap.Milliseconds(), maxGap.Milliseconds(), absence.Milliseconds(), grace.Milliseconds(), chunkCommands,
		began, since, searchKeys, searchRest, s.format, s.o.DeadLetterMax, ms(s.o.DeadLetterMaxAge)).Slice()
	if err != nil {
		return TickResult{}, failure("tick", err)
	}
	if len(reply) != 14 {
		return TickResult{}, failure("tick", errReply)
	}
	promoted, ok1 := reply[0].(int64)
	drained, ok2 := reply[1].(int64)
	dead, ok3 := texts(reply[2])
	unfinished, ok4 := texts(reply[3])
	inFlight, ok5 := reply[4].(int64)
	paused, ok6 := reply[5].(int64)
	allPaused, ok7 := reply[6].(int64)
	commands, ok8 := texts(reply[7])
	unrouted, ok9 := reply[8].(int64)
	clock, ok10 := reply[9].(int64)
	isolated, ok11 := reply[10].(int64)
	raised, ok12 := reply[11].(int64)
	replaced, ok13 := reply[12].(int64)
	letters, ok14 := reply[13].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || !ok7 || !ok8 || !ok9 || !ok10 || !ok11 || !ok12 || !ok13 || !ok14 {
		return TickResult{}, failure("tick", errReply)
	}
	s.ticked(run, clock)
	return TickResult{
		Dead: dead, Unfinished: unfinished, Promoted: int(promoted), Drained: int(drained), InFlight: int(inFlight),
		Paused: paused == 1, AllPaused: allPaused == 1, Commands: decodeCommands(commands), Unrouted: int(unrouted),
		Isolated: int(isolated), FormatRaised: int(raised), FormatReplaced: replaced == 1,
		TrimDead: letters == 1,
	}, nil
}

// ticking is the state of Redis' clock at the last tick of a run, and the time of that
// tick by the local monotonic clock.
type ticking struct {
	clock int64 // ms
	at    time.Time
}

// lastTick returns Redis' clock at the last tick and the time since then in ms; "" and 0
// without one.
func (s *Store) lastTick(run string) (clock any, ms int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.ticks[run]
	if !ok {
		return "", 0
	}
	return t.clock, time.Since(t.at).Milliseconds()
}

// ticked stores Redis' clock of a tick.
func (s *Store) ticked(run string, clock int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.ticks) // a sidecar has one run at a time
	s.ticks[run] = ticking{clock, time.Now()}
}

// texts converts a reply that must be a list of strings.
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
