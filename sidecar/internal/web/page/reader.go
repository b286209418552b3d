package page

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// patience is for one look at Redis: one that does not answer is shown as away.
const patience = 2 * time.Second

// What is shown at most: every viewer is sent all of it.
const (
	maxRuns     = 200
	maxLetters  = 100
	maxMessage  = 500 // bytes of a dead letter's message in the list
	lettersRest = 10 * time.Second
)

// reader looks at Redis for all viewers. It belongs to Run's goroutine.
type reader struct {
	page *Page

	fleet  []fleet.Run // as last read
	lost   time.Time   // since when Redis is away
	rate   meter
	queue  fleet.Queue // as last read
	letter struct {    // when and at which count the dead letters were read
		at    time.Time
		count int64
	}
}

// now is the event of every second, which every viewer is sent.
type now struct {
	At    int64      `json:"at"` // Unix milliseconds, here
	Redis redisState `json:"redis"`

	fleet.Queue
	Oldest *int64 `json:"oldest,omitempty"` // milliseconds; nil where it is not known

	Runs  int   `json:"runs"`
	Slots int   `json:"slots"`
	Busy  int   `json:"busy"`
	Point point `json:"point"`
}

// redisState says whether what is shown is from now.
type redisState struct {
	Up    bool   `json:"up"`
	Why   string `json:"why,omitempty"`
	Since int64  `json:"since,omitempty"` // Unix milliseconds
}

// runs is the event with the fleet.
type runs struct {
	Self  string      `json:"self"`
	Total int         `json:"total"`
	Runs  []fleet.Run `json:"runs"`
}

// letters is the event with the dead letters, without what is long about them.
type letters struct {
	Letters []fleet.DeadLetter `json:"letters"`
}

func (r *reader) read(parent context.Context) {
	b := r.page.board
	ctx, cancel := context.WithTimeout(parent, patience)
	defer cancel()
	err := r.ask(ctx)
	if parent.Err() != nil {
		return
	}
	at := time.Now()
	list := r.known()
	n := now{At: at.UnixMilli(), Queue: r.queue, Runs: len(list), Point: point{At: at.UnixMilli()}}
	if r.queue.Oldest != nil {
		ms := r.queue.Oldest.Milliseconds()
		n.Oldest = &ms
	}
	for _, run := range list {
		n.Slots += run.Slots
		n.Busy += run.Busy
	}
	if err != nil {
		if r.lost.IsZero() {
			r.lost = at
		}
		n.Redis = redisState{Why: r.page.o.Why(err), Since: r.lost.UnixMilli()}
		r.rate.reset()
	} else {
		r.lost = time.Time{}
		n.Redis.Up = true
		n.Point.Depth, n.Point.Busy = &n.Depth, &n.Busy
		n.Point.Done, n.Point.Failed = r.rate.add(at, list)
	}
	b.put("now", false, n)
	b.put("fleet", true, runs{Self: list[0].ID, Total: len(list), Runs: list[:min(len(list), maxRuns)]})
	b.add(n.Point)
	b.publish()
}

// ask asks Redis. What it answered before an error is kept.
func (r *reader) ask(ctx context.Context) error {
	src := r.page.o.Source
	queue, err := src.Overview(ctx)
	if err != nil {
		return err
	}
	r.queue = queue
	list, err := src.Fleet(ctx)
	if err != nil {
		return err
	}
	r.fleet = list
	// The letters are large: read when there are more or fewer of them, and
	// now and then for the same number of others.
	if time.Since(r.letter.at) < lettersRest && r.letter.count == queue.Dead {
		return nil
	}
	dead, err := src.DeadLetters(ctx, maxLetters)
	if err != nil {
		return err
	}
	for i := range dead {
		dead[i].Message = head(dead[i].Message, maxMessage)
		dead[i].Stderr = ""
	}
	r.page.board.put("dead", true, letters{dead})
	r.letter.at, r.letter.count = time.Now(), queue.Dead
	return nil
}

// known are the runs, this one first and as it is now, the others as they last
// said, in an order that does not change under the reader's eyes.
func (r *reader) known() []fleet.Run {
	self := r.page.o.Source.Self()
	for _, run := range r.fleet {
		if run.ID == self.ID {
			self.Paused = run.Paused // which Redis alone knows
		}
	}
	others := slices.DeleteFunc(slices.Clone(r.fleet), func(run fleet.Run) bool { return run.ID == self.ID })
	slices.SortFunc(others, func(a, b fleet.Run) int {
		return cmp.Or(cmp.Compare(a.WorkerID, b.WorkerID), a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	list := append([]fleet.Run{self}, others...)
	for i := range list {
		// The page does not show it, and it would have the whole fleet sent anew each
		// second.
		list[i].Seen = time.Time{}
	}
	return list
}

// head is the beginning of a text, cut between runes.
func head(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && s[limit]&0xC0 == 0x80 {
		limit--
	}
	return s[:limit] + "…"
}

// tail is its end: of a worker's last lines the last ones matter.
func tail(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	from := len(s) - limit
	for from < len(s) && s[from]&0xC0 == 0x80 {
		from++
	}
	return "…" + s[from:]
}
