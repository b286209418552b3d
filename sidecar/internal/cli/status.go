package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// overview is what sidecar status shows.
type overview struct {
	Redis   string             `json:"redis"`
	Prefix  string             `json:"key_prefix"`
	At      time.Time          `json:"at"`
	Format  int                `json:"format"` // of the keys; 0 if unreadable
	Queue   fleet.Queue        `json:"queue"`
	Runs    []fleet.Run        `json:"runs"`
	Letters []fleet.DeadLetter `json:"dead_letters"` // the newest

	known int // newest format that this version knows
}

// lettersShown is how many dead letters the overview has.
const lettersShown = 5

func statusCommand() *cobra.Command {
	watch, every := false, 2*time.Second
	c := &cobra.Command{
		Use:   "status",
		Short: "Show the sidecars, the queue and the newest dead letters",
		Long: `Shows every sidecar of the key prefix with its state, its slots and how many are
busy, the queue with the age of the record that has waited longest, and the newest
dead letters. A sidecar of an older version is listed as unknown, one whose lease
has run out as absent: another one takes over its records within seconds.`,
		Example: "  sidecar status\n  sidecar status --watch\n  sidecar status -o json | jq .queue.depth",
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until Ctrl-C; in a pipe one after the other")
	c.Flags().DurationVar(&every, "interval", every, "pause between two views of --watch")
	return command(c, func(ctx context.Context, s *session, _ []string) error {
		if !watch {
			o, err := s.overview(ctx)
			if err != nil {
				return err
			}
			return s.show(o, false)
		}
		if every < 100*time.Millisecond {
			return wrongUse("--interval is %v, and must be at least 100ms", every)
		}
		return s.watch(ctx, every)
	})
}

func (s *session) overview(ctx context.Context) (overview, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	o := overview{Redis: s.cfg.Redis.Address(), Prefix: s.cfg.KeyPrefix, At: time.Now()}
	var err error
	if o.Queue, err = s.st.Overview(ctx); err != nil {
		return o, err
	}
	if o.Format, o.known, err = s.st.Format(ctx); err != nil {
		return o, err
	}
	if o.Runs, err = s.st.Fleet(ctx); err != nil {
		return o, err
	}
	o.Letters, err = s.st.DeadLetters(ctx, lettersShown)
	return o, err
}

// watch shows the overview until ctx ends. Redis may go and come back meanwhile.
func (s *session) watch(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for first := true; ; first = false {
		o, err := s.overview(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && first {
			return err
		}
		if s.out.tty && !s.out.json {
			fmt.Fprint(s.out.w, "\x1b[H\x1b[2J")
		} else if !first && !s.out.json {
			fmt.Fprintln(s.out.w)
		}
		if err != nil {
			fmt.Fprintln(s.errOut, "sidecar: "+clean(s.explain(err).Error()))
		} else if err := s.show(o, true); err != nil {
			return err // the reader is gone
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *session) show(o overview, oneLine bool) error {
	p := s.out
	if p.json {
		return p.object(o, oneLine)
	}
	if _, err := fmt.Fprintln(p.w, clean(fmt.Sprintf("%s, prefix %s, %s", o.Redis, o.Prefix, o.At.Format(time.DateTime)))); err != nil {
		return err
	}
	q := o.Queue
	oldest := "none waits"
	if q.Depth > 0 {
		oldest = "oldest " + ageOr(q.Oldest, "unknown")
	}
	p.say("queue %d (%s), in flight %d, delayed %d, unrouted %d, dead letters %d", q.Depth, oldest, q.InFlight, q.Delayed, q.Unrouted, q.Dead)
	if o.Format > o.known {
		p.say("THE KEYS HAVE FORMAT %d, which this version does not know: use the version of the sidecars", o.Format)
	}
	if q.Paused {
		p.say("%s", "ALL ARE PAUSED: nothing is claimed until sidecar resume --all")
	}
	fmt.Fprintln(p.w)
	if len(o.Runs) == 0 {
		p.say("no sidecar is running with this prefix")
	} else {
		p.runs(o.Runs)
	}
	if len(o.Letters) > 0 {
		fmt.Fprintln(p.w)
		p.letters(o.Letters)
	}
	return nil
}

func (p *printer) runs(runs []fleet.Run) {
	rows := make([][]string, len(runs))
	for i, r := range runs {
		state := r.State
		if r.Paused && state != "paused" {
			state += ", paused"
		}
		if r.Problem != "" {
			state += ", " + r.Problem
		}
		busy := fmt.Sprintf("%d/%d", r.Busy, r.Slots)
		if r.State == fleet.Unknown || r.Slots == 0 {
			busy = "-"
		}
		rows[i] = []string{
			r.ID, orDash(r.Host), state, busy, strconv.Itoa(r.Waiting), strconv.Itoa(r.Unreported), since(r.Since),
			orDash(r.HTTP), orDash(r.Version), orDash(r.Command),
		}
	}
	p.table([]string{"ID", "HOST", "STATE", "BUSY", "WAITING", "UNREPORTED", "UP", "HTTP", "VERSION", "COMMAND"}, rows)
}

// find is the member run that a person means: by its id, a beginning of it, or
// its worker id or host where no other has that.
func (s *session) find(ctx context.Context, id string) (fleet.Run, error) {
	runs, err := s.st.Fleet(ctx)
	if err != nil {
		return fleet.Run{}, err
	}
	return match(runs, id)
}

func match(runs []fleet.Run, id string) (fleet.Run, error) {
	for _, fits := range []func(fleet.Run) bool{
		func(r fleet.Run) bool { return r.ID == id },
		func(r fleet.Run) bool { return r.WorkerID == id },
		func(r fleet.Run) bool { return r.Host == id },
		func(r fleet.Run) bool { return shownAs(r.ID, id) },
	} {
		found := slices.DeleteFunc(slices.Clone(runs), func(r fleet.Run) bool { return id == "" || !fits(r) })
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			ids := make([]string, len(found))
			for i, r := range found {
				ids[i] = r.ID
			}
			return fleet.Run{}, wrongUse("%s may be any of these, give more of the id: %s", clean(id), clean(strings.Join(ids, " ")))
		}
	}
	return fleet.Run{}, no("no sidecar has the id %s: sidecar status lists them", clean(id))
}

// completeRuns gives the ids of runs to the shell.
func completeRuns(loader func(*cobra.Command) (*session, error)) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(c, loader, func(ctx context.Context, s *session) (ids []string, err error) {
			runs, err := s.st.Fleet(ctx)
			for _, r := range runs {
				ids = append(ids, r.ID+"\t"+clean(r.Host+" "+r.State))
			}
			return ids, err
		})
	}
}
