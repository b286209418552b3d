package redis

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// passes sets the last check of the members to d ago, however long the test has taken since:
// on a busy machine a check would otherwise come too late.
func (e *env) passes(d time.Duration) {
	e.t.Helper()
	err := e.c.Eval(e.ctx, passesLua, []string{e.keys.own("watch")}, d.Milliseconds()).Err()
	if err != nil {
		e.t.Fatal(err)
	}
}

// passesLua moves all times of the watch hash. It is one script because the time of a busy
// machine passes between two calls, too, and a gap of 1.5 s is another case.
const passesLua = `
local at = redis.call('HGET', KEYS[1], 'at')
if at then -- there was a check
  local t = redis.call('TIME')
  local back = ARGV[1] - (t[1] * 1000 + math.floor(t[2] / 1000) - at)
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if field ~= 'page' and field ~= 'cursor' and field ~= 'rest' then
      redis.call('HINCRBY', KEYS[1], field, 0 - back) -- and not -0
    end
  end
end
return 1`

func TestADeadRunIsReapedAfterThreeConsecutiveTicks(t *testing.T) {
	second := []time.Duration{time.Second, time.Second, time.Second}
	for name, c := range map[string]struct {
		pauses []time.Duration // before each check but the first
		others bool            // each look is by another run, which is gone by the next one
		dead   int             // the look that names the dead run; 0 for none
	}{
		"by the same run":         {pauses: second, dead: 3},
		"by others each time":     {pauses: second, others: true, dead: 3},
		"a little late and early": {pauses: []time.Duration{1400 * time.Millisecond, 600 * time.Millisecond}, dead: 3},
		"four in two seconds":     {pauses: []time.Duration{600 * time.Millisecond, 600 * time.Millisecond, 700 * time.Millisecond}, dead: 4},
		"too far apart":           {pauses: []time.Duration{time.Second, 1600 * time.Millisecond, time.Second, time.Second}},
		"after that, with grace":  {pauses: []time.Duration{time.Second, time.Hour, time.Second, time.Second, time.Second}, dead: 6},
		"the clock went back":     {pauses: []time.Duration{time.Second, -time.Hour, time.Second, time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				self, dead := e.run("self"), e.run("dead")
				same(t, "all alive", e.tick(self), TickResult{})
				e.passes(time.Second)
				e.expire(dead)
				for look := 1; look <= len(c.pauses)+1; look++ {
					if c.others {
						next := e.run("other")
						if err := e.Leave(e.ctx, self); err != nil {
							t.Fatal(err)
						}
						self = next
					}
					if look > 1 {
						e.passes(c.pauses[look-2])
					}
					want := TickResult{}
					if c.dead > 0 && look >= c.dead { // no run reaps it in this test
						want.Dead = []string{dead}
					}
					same(t, fmt.Sprint("look ", look), e.tick(self), want)
				}
			})
		})
	}
}

// TestALaterTickReturnsTheDeadRunAgain: a run whose tick returned a dead run may die
// itself, or never get the reply.
func TestALaterTickReturnsTheDeadRunAgain(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a, b, dead, shaky := e.run("a"), e.run("b"), e.run("dead"), e.run("shaky")
		e.expire(dead)
		e.expire(shaky)
		for range 3 { // one of them is the grace period
			e.tick(a)
			e.passes(time.Second)
		}
		same(t, "renewed in time", e.Renew(e.ctx, shaky), nil)
		same(t, "told to a", e.tick(a), TickResult{Dead: []string{dead}})
		e.passes(0)
		same(t, "a look that is fresh", e.tick(b), TickResult{})
		e.passes(minGap)
		same(t, "told to b", e.tick(b), TickResult{Dead: []string{dead}})
		e.die(b, dead, 3)
		e.passes(minGap)
		same(t, "reaped", e.tick(a), TickResult{})
		e.expire(shaky)
		e.passes(time.Second)
		same(t, "counted anew", e.tick(a), TickResult{})
	})
}

// TestTicksShareTheWatch: one check serves all members for half a second.
func TestTicksShareTheWatch(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a, b := e.run("a"), e.run("b")
		look := func() string { return e.hash(e.keys.own("watch"))["page"] }
		e.tick(a)
		first := look()
		e.passes(0)
		e.tick(b)
		same(t, "one that is fresh", look(), first)
		e.passes(minGap)
		e.tick(b)
		if look() == first {
			t.Error("an old one served b too")
		}
	})
}

// TestOneTickReturnsAllDeadRuns: however many runs die at once.
func TestOneTickReturnsAllDeadRuns(t *testing.T) {
	const deaths = 450
	both(t, Options{}, func(t *testing.T, e *env) {
		self := e.run("self")
		var dead []string
		for range deaths {
			run := e.run("same-name")
			e.expire(run)
			dead = append(dead, run)
		}
		e.tick(self)
		e.passes(grace)
		for range 2 {
			same(t, "not yet", e.tick(self).Dead, []string(nil))
			e.passes(time.Second)
		}
		got := e.tick(self).Dead
		slices.Sort(got)
		slices.Sort(dead)
		same(t, "dead", got, dead)
	})
}
