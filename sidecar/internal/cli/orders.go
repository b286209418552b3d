package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// done is what a command that changes something answers.
type done struct {
	Action string `json:"action"`
	ID     string `json:"id"`
	Slot   *int   `json:"slot,omitempty"`
}

func (s *session) did(d done, format string, args ...any) error {
	if s.out.json {
		return s.out.object(d, false)
	}
	s.out.say(format, args...)
	return nil
}

// oneOrAll completes a command for one run or, with --all, for all of them.
func oneOrAll(c *cobra.Command, what string, run func(ctx context.Context, s *session, id string) error) *cobra.Command {
	all := false
	c.Flags().BoolVar(&all, "all", false, what)
	c.Args = cobra.MaximumNArgs(1)
	c.ValidArgsFunction = completeRuns(forCompletion)
	return command(c, func(ctx context.Context, s *session, args []string) error {
		ctx, cancel := bounded(ctx)
		defer cancel()
		switch {
		case all && len(args) > 0, !all && len(args) == 0:
			return wrongUse("give the id of a sidecar, or --all")
		case all:
			return run(ctx, s, fleet.AllRuns)
		}
		r, err := s.find(ctx, args[0])
		if err != nil {
			return err
		}
		return run(ctx, s, r.ID)
	})
}

func pauseCommand() *cobra.Command {
	return oneOrAll(&cobra.Command{
		Use:   "pause ID | --all",
		Short: "Have a sidecar, or all of the prefix, claim nothing more",
		Long: `The sidecar hears of it within a second, claims nothing more and goes on with what
it runs. With --all the prefix is paused: also sidecars that start later. Only
resume ends it; SIGCONT does not, and resume does not end what SIGTSTP asked for.

Programs that run with --mode supervise take their tasks themselves: they go on.`,
	}, "pause the whole key prefix, also what starts later", func(ctx context.Context, s *session, id string) error {
		if err := s.st.Pause(ctx, id, s.by); err != nil {
			return err
		}
		return s.did(done{Action: "pause", ID: id}, "paused: %s", everyone(id))
	})
}

func resumeCommand() *cobra.Command {
	return oneOrAll(&cobra.Command{
		Use:   "resume ID | --all",
		Short: "End a pause",
		Long: `Ends the pause of one sidecar, or that of the prefix. These are two: a sidecar that
was paused by its id stays so after resume --all, and the reverse.`,
	}, "end the pause of the whole key prefix", func(ctx context.Context, s *session, id string) error {
		if err := s.st.Unpause(ctx, id); err != nil {
			return err
		}
		if err := s.did(done{Action: "resume", ID: id}, "resumed: %s", everyone(id)); err != nil || id == fleet.AllRuns {
			return err
		}
		if _, all, err := s.st.Paused(ctx, id); err == nil && all {
			fmt.Fprintln(s.errOut, "sidecar: the whole prefix is still paused: sidecar resume --all ends that")
		}
		return nil
	})
}

func everyone(id string) string {
	if id == fleet.AllRuns {
		return "all sidecars of the prefix"
	}
	return id
}

func drainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "drain ID",
		Short: "Have a sidecar finish what it runs, and end",
		Long: `As SIGTERM would: the sidecar claims nothing more, finishes what it runs within
SIDECAR_SHUTDOWN_TIMEOUT, hands the rest back and exits with status 0. Whatever
keeps it running, such as Kubernetes, will start another one.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(forCompletion),
	}
	return command(c, func(ctx context.Context, s *session, args []string) error {
		return s.order(ctx, args[0], fleet.Command{Action: fleet.Drain}, nil, "told to drain: %s")
	})
}

func childrenCommand() *cobra.Command {
	parent := &cobra.Command{
		Use:   "children",
		Short: "See to the worker processes of a sidecar",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return wrongUse("sidecar children needs a command: restart") },
	}
	slot := -1
	c := &cobra.Command{
		Use:   "restart ID",
		Short: "Replace the worker processes of a sidecar, one after another",
		Long: `As SIGHUP would: each worker is replaced by a fresh one, which is started first, and
no task is cut short. A worker that does not start ends the round: the old ones
stay. With --mode exec there is nothing to replace.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeRuns(forCompletion),
	}
	c.Flags().IntVar(&slot, "slot", -1, "replace the one in this slot only; sidecar tasks and the page have the numbers")
	parent.AddCommand(command(c, func(ctx context.Context, s *session, args []string) error {
		if !c.Flags().Changed("slot") {
			return s.order(ctx, args[0], fleet.Command{Action: fleet.RestartChildren}, nil, "told to replace its workers: %s")
		}
		if slot < 0 {
			return wrongUse("--slot is %d, and must be 0 or more", slot)
		}
		return s.order(ctx, args[0], fleet.Command{Action: fleet.RestartChild, Slot: slot}, &slot, "told to replace the worker in the slot: %s")
	}))
	return parent
}

func (s *session) order(ctx context.Context, id string, o fleet.Command, slot *int, format string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	r, err := s.find(ctx, id)
	if err != nil {
		return err
	}
	o.By = s.by
	if err := s.st.SendCommand(ctx, r.ID, o); err != nil {
		return err
	}
	return s.did(done{Action: o.Action, ID: r.ID, Slot: slot}, format, r.ID)
}
