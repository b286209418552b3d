package cli

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

func deadCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dead",
		Short: "See to the dead letters: records that were given up",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return wrongUse("sidecar dead needs a command: list, show, requeue or drop")
		},
	}
	c.AddCommand(deadListCommand(), deadShowCommand(), requeueCommand(), dropCommand())
	return c
}

func (p *printer) letters(list []fleet.DeadLetter) {
	rows := make([][]string, len(list))
	for i, l := range list {
		rows[i] = []string{l.ID, orDash(l.TaskID), orDash(l.GroupID), l.Reason, strconv.Itoa(l.Attempts), since(l.At), orDash(l.Message)}
	}
	p.table([]string{"DEAD LETTER", "TASK", "GROUP", "REASON", "ATTEMPTS", "AGE", "MESSAGE"}, rows)
}

func deadListCommand() *cobra.Command {
	n := 50
	c := &cobra.Command{Use: "list", Short: "List the dead letters, the newest first", Args: cobra.NoArgs}
	c.Flags().IntVarP(&n, "number", "n", n, "how many at most; 0 for all")
	return command(c, func(ctx context.Context, s *session, _ []string) error {
		ctx, cancel := bounded(ctx)
		defer cancel()
		list, err := s.st.DeadLetters(ctx, n)
		if err != nil {
			return err
		}
		switch {
		case s.out.json:
			return s.out.object(list, false)
		case len(list) == 0:
			s.out.say("there are no dead letters")
		default:
			s.out.letters(list)
		}
		return nil
	})
}

// letter is the dead letter that a person means: by its id or a beginning of it.
func (s *session) letter(ctx context.Context, id string) (fleet.DeadLetter, error) {
	l, ok, err := s.st.DeadLetter(ctx, id)
	if err != nil || ok {
		return l, err
	}
	all, err := s.st.DeadLetters(ctx, 0)
	if err != nil {
		return l, err
	}
	var found []string
	for _, l := range all {
		if shownAs(l.ID, id) {
			found = append(found, l.ID)
		}
	}
	switch len(found) {
	case 0:
		return l, no("there is no dead letter %s: sidecar dead list has them", clean(id))
	case 1:
		l, ok, err = s.st.DeadLetter(ctx, found[0])
		if err == nil && !ok {
			err = no("the dead letter %s is gone", clean(found[0]))
		}
		return l, err
	default:
		return l, wrongUse("%s may be any of these, give more of the id: %s", clean(id), clean(strings.Join(found, " ")))
	}
}

func completeLetters(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return complete(c, forCompletion, func(ctx context.Context, s *session) (ids []string, err error) {
		list, err := s.st.DeadLetters(ctx, 100)
		for _, l := range list {
			ids = append(ids, l.ID+"\t"+clean(l.TaskID+" "+l.Reason))
		}
		return ids, err
	})
}

func deadShowCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "show ID", Short: "Show a dead letter with its error, its stderr and its record",
		Args: cobra.ExactArgs(1), ValidArgsFunction: completeLetters,
	}
	return command(c, func(ctx context.Context, s *session, args []string) error {
		ctx, cancel := bounded(ctx)
		defer cancel()
		l, err := s.letter(ctx, args[0])
		if err != nil {
			return err
		}
		if s.out.json {
			return s.out.object(struct {
				fleet.DeadLetter
				Record any `json:"record"`
			}{l, rawJSON(l.Raw)}, false)
		}
		for _, line := range [][2]string{
			{"id", l.ID},
			{"task", l.TaskID},
			{"session", l.SessionID},
			{"group", l.GroupID},
			{"reason", l.Reason},
			{"attempts", strconv.Itoa(l.Attempts)},
			{"died", died(l.At)},
		} {
			s.out.say("%-9s %s", line[0], orDash(line[1]))
		}
		for _, part := range [][2]string{{"message", l.Message}, {"stderr", l.Stderr}, {"record", string(l.Raw)}} {
			fmt.Fprintln(s.out.w, "\n"+s.out.bold(part[0]))
			for line := range strings.SplitSeq(strings.TrimRight(part[1], "\n"), "\n") {
				s.out.say("  %s", strings.ReplaceAll(line, "\t", "    "))
			}
		}
		return nil
	})
}

// chosen are the letters that a command is for.
func (s *session) chosen(ctx context.Context, all bool, args []string) ([]string, error) {
	if all == (len(args) > 0) {
		return nil, wrongUse("give the ids of dead letters, or --all")
	}
	ids := make([]string, 0, len(args))
	if all {
		list, err := s.st.DeadLetters(ctx, 0)
		for _, l := range slices.Backward(list) { // the oldest first, as they were claimed
			ids = append(ids, l.ID)
		}
		return ids, err
	}
	for _, arg := range args {
		l, err := s.letter(ctx, arg)
		if err != nil {
			return nil, err
		}
		ids = append(ids, l.ID)
	}
	return ids, nil
}

// confirm asks on the terminal. Without a terminal, what concerns all needs --yes.
func (s *session) confirm(question string, yes, all bool) error {
	if yes {
		return nil
	}
	if s.in == nil || !term.IsTerminal(int(s.in.Fd())) {
		if all {
			return wrongUse("no terminal to confirm this on: give --yes")
		}
		return nil
	}
	fmt.Fprint(s.errOut, question+" [y/N] ")
	answer, _ := bufio.NewReader(s.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return no("nothing was done")
}

// result is what became of one dead letter.
type result struct {
	ID     string `json:"id"`
	Result string `json:"result"`
}

// why says what a refusal means.
var why = map[fleet.Requeued]string{
	fleet.RequeueDone:      "requeued",
	fleet.RequeueGone:      "not requeued: there is no such dead letter any more",
	fleet.RequeueGroupOver: "not requeued: its group is over, so no workflow waits for its result; --force runs it all the same",
	fleet.RequeueCounted: "not requeued: its group has counted its failure in a way that cannot be taken back (it succeeded elsewhere, " +
		"or the group's name was used before); --force runs it, and its result counts for no group",
}

func requeueCommand() *cobra.Command {
	all, force, yes := false, false, false
	c := &cobra.Command{
		Use:   "requeue ID… | --all",
		Short: "Put dead letters into the queue again",
		Long: `Puts the record back, byte for byte, behind what waits, with all its attempts; the
letter is gone then. Both is one step.

When a task of a group died, its group was told of a failure and its barrier counted
it. While the barrier is still open, a requeue takes that back: the count, and the
failed completion. The producer then waits for this task as if it had never failed,
and its next outcome counts, once. When the barrier is over, or what it counted
cannot be told for sure, the requeue is refused; --force runs the task all the same,
and its outcome reaches no producer.`,
		ValidArgsFunction: completeLetters,
	}
	c.Flags().BoolVar(&all, "all", false, "all dead letters, the oldest first")
	c.Flags().BoolVar(&force, "force", false, "also those whose group is over")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return command(c, func(ctx context.Context, s *session, args []string) error {
		ids, err := s.chosen(ctx, all, args)
		if err != nil {
			return err
		}
		if all && len(ids) > 0 {
			if err := s.confirm(fmt.Sprintf("Requeue all %d dead letters?", len(ids)), yes, true); err != nil {
				return err
			}
		}
		return s.each(ctx, ids, func(ctx context.Context, id string) (string, string, bool, error) {
			got, err := s.st.Requeue(ctx, id, force)
			return string(got), why[got], got == fleet.RequeueDone, err
		})
	})
}

func dropCommand() *cobra.Command {
	all, yes := false, false
	c := &cobra.Command{
		Use:   "drop ID… | --all",
		Short: "Delete dead letters for good",
		Long: `Deletes the letter and its record. Its group was told of the failure when the task
died: for it nothing changes. On a terminal it asks before.`,
		ValidArgsFunction: completeLetters,
	}
	c.Flags().BoolVar(&all, "all", false, "all dead letters")
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return command(c, func(ctx context.Context, s *session, args []string) error {
		ids, err := s.chosen(ctx, all, args)
		if err != nil || len(ids) == 0 {
			if err == nil {
				err = s.each(ctx, nil, nil)
			}
			return err
		}
		if err := s.confirm(fmt.Sprintf("Delete %d dead letters for good?", len(ids)), yes, all); err != nil {
			return err
		}
		return s.each(ctx, ids, func(ctx context.Context, id string) (string, string, bool, error) {
			ok, err := s.st.Drop(ctx, id)
			if ok {
				return "dropped", "dropped", true, err
			}
			return string(fleet.RequeueGone), "not dropped: there is no such dead letter any more", false, err
		})
	})
}

// each does something with each letter and says what became of it. It fails if
// one was refused.
func (s *session) each(ctx context.Context, ids []string, do func(ctx context.Context, id string) (word, text string, ok bool, err error)) error {
	results, refused := make([]result, 0, len(ids)), 0
	for _, id := range ids {
		one, cancel := bounded(ctx)
		word, text, ok, err := do(one, id)
		cancel()
		if err != nil {
			return err
		}
		if !ok {
			refused++
		}
		results = append(results, result{id, word})
		if !s.out.json {
			s.out.say("%s  %s", id, text)
		}
	}
	if s.out.json {
		if err := s.out.object(results, false); err != nil {
			return err
		}
	} else if len(ids) == 0 {
		s.out.say("there are no dead letters")
	}
	if refused > 0 {
		return no("%d of %d were refused", refused, len(ids))
	}
	return nil
}
