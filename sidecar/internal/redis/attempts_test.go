package redis

import (
	"fmt"
	"testing"
)

// What a loss does to the stored attempts of a record, whose limit is three or one.
func TestAttemptsAfterALoss(t *testing.T) {
	child, shared, whole := Release{Lost: true}, Release{Lost: true, Shared: true}, Release{Lost: true, Shared: true, Whole: true}
	unread, unreadShared := Release{Unread: true}, Release{Unread: true, Shared: true, Whole: true}
	for _, c := range []struct {
		before string
		loss   Release
		max    int
		after  string
		want   Released
	}{
		{"", child, 3, "1:child", Released{Losses: 1}},
		{"", whole, 3, "1:run", Released{Losses: 1}},
		{"rubbish", child, 3, "1:child", Released{Losses: 1}},
		{"rubbish", unread, 3, "0:unread::u", Released{}},
		{"1:run", child, 3, "2:child", Released{Losses: 2}},
		{"1:delay:4:u", child, 3, "2:child", Released{Losses: 2}},
		{"2:child", child, 3, "3:child", Released{Losses: 3, Exhausted: true}},
		{"3:child", child, 3, "3:child", Released{Losses: 3, Exhausted: true}},
		{"7:child", child, 3, "3:child", Released{Losses: 3, Exhausted: true}},
		{"2:child", shared, 3, "2:child:1", Released{Losses: 2}},
		{"2:child:1", whole, 3, "2:run:2", Released{Losses: 2}},
		{"2:run:28", whole, 3, "2:run:29", Released{Losses: 2}},
		{"2:run:29", whole, 3, "3:run", Released{Losses: 3, Exhausted: true}},
		{"3:run", whole, 3, "3:run", Released{Losses: 3, Exhausted: true}},
		{"", shared, 1, "1:child", Released{Losses: 1, Exhausted: true}},
		{"1:run", shared, 2, "1:child:1", Released{Losses: 1}},
		{"", unread, 3, "0:unread::u", Released{}},
		{"1:run", unread, 3, "1:run::u", Released{Losses: 1}},
		{"2:run:5", unread, 3, "2:run:5:u", Released{Losses: 2}},
		{"2:run:1", unread, 3, "2:run:1:u", Released{Losses: 2}},
		{"0:unread::u", unread, 3, "1:child", Released{Losses: 1, Counted: true}},
		{"2:run:5:u", unreadShared, 3, "2:run:6", Released{Losses: 2, Counted: true}},
		{"2:run::u", unreadShared, 3, "2:run:1", Released{Losses: 2, Counted: true}},
		{"2:run::u", unread, 3, "3:child::u", Released{Losses: 3, Exhausted: true}},
		{"3:child::u", unread, 3, "3:child::u", Released{Losses: 3, Exhausted: true}},
	} {
		t.Run(fmt.Sprintf("%s %+v", c.before, c.loss), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				sha := RecordSHA([]byte("r"))
				c.loss.Delivery, c.loss.MaxAttempts = e.claimOne(run, "r").Delivery, c.max
				if c.before != "" {
					e.c.HSet(e.ctx, e.keys.own("attempts"), sha, c.before)
				}
				got := e.release(run, c.loss)[0]
				if c.want.Exhausted { // the counter is not told of with these
					got.Counted = c.want.Counted
				}
				same(t, "result", got, c.want)
				same(t, "stored", e.hash(e.keys.own("attempts")), map[string]string{sha: c.after})
				same(t, "times", e.c.ZCard(e.ctx, e.keys.own("attempts:at")).Val(), 1)
				same(t, "queue", len(e.queue()) == 1, !c.want.Exhausted)
			})
		})
	}
}

// What a claim tells of the stored attempts.
func TestAttemptsInAClaim(t *testing.T) {
	for stored, want := range map[string]string{
		"": "0 false false", "1:child": "1 false true", "2:run": "2 true true", "2:run:3": "2 true true", "2:run:3:u": "2 true true",
		"2:run::u": "2 true true", "12:run:34:u": "12 true true", "1:": "0 false false", "0:unread::u": "0 false true",
		"rubbish": "0 false false", "2:run:x": "0 false false",
	} {
		t.Run(stored, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.c.HSet(e.ctx, e.keys.own("attempts"), "another", "1:run")
				if stored != "" {
					e.c.HSet(e.ctx, e.keys.own("attempts"), RecordSHA([]byte("r")), stored)
				}
				c := e.claimOne(run, "r")
				same(t, "losses, by a run, counted", fmt.Sprint(c.Losses, c.LostWithRun, c.Counted), want)
			})
		})
	}
}
