package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

func queueCommand() *cobra.Command {
	parent := &cobra.Command{
		Use:   "queue",
		Short: "Look into the queue",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return wrongUse("sidecar queue needs a command: peek") },
	}
	n := 10
	c := &cobra.Command{
		Use:   "peek",
		Short: "Show the records that are claimed next, and leave them there",
		Args:  cobra.NoArgs,
	}
	c.Flags().IntVarP(&n, "number", "n", n, "how many")
	parent.AddCommand(command(c, func(ctx context.Context, s *session, _ []string) error {
		if n < 1 || n > 10000 {
			return wrongUse("--number is %d, and must be 1 to 10000", n)
		}
		ctx, cancel := bounded(ctx)
		defer cancel()
		records, err := s.st.Peek(ctx, n)
		if err != nil {
			return err
		}
		if s.out.json {
			type shown struct {
				fleet.Record
				Text any `json:"record"`
			}
			list := make([]shown, len(records))
			for i, r := range records {
				list[i] = shown{r, rawJSON(r.Raw)}
			}
			return s.out.object(list, false)
		}
		if len(records) == 0 {
			s.out.say("the queue is empty")
			return nil
		}
		rows := make([][]string, len(records))
		for i, r := range records {
			rows[i] = []string{strconv.FormatInt(r.Index, 10), orDash(r.TaskID), orDash(r.SessionID), orDash(r.GroupID), ageOr(r.Age, "-"), strconv.Itoa(r.Bytes), orDash(r.Problem)}
		}
		s.out.table([]string{"#", "TASK", "SESSION", "GROUP", "AGE", "BYTES", "PROBLEM"}, rows)
		return nil
	}))
	return parent
}

// rawJSON is a record within JSON: as it is where it is JSON, else as a text.
func rawJSON(raw []byte) any {
	if utf8.Valid(raw) && json.Valid(raw) {
		return json.RawMessage(raw)
	}
	return string(raw)
}

func tasksCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "tasks",
		Short: "Show the tasks in flight: where, since when, which attempt",
		Long: `Lists what the sidecars have claimed and not ended, the longest running first. That
a record is there is certain; slot, process, time and progress are what its sidecar
said last, some seconds ago at most. held: claimed and not started, or not known to
have.`,
		Args: cobra.NoArgs,
	}
	return command(c, func(ctx context.Context, s *session, _ []string) error {
		ctx, cancel := bounded(ctx)
		defer cancel()
		list, err := s.st.InFlight(ctx)
		if err != nil {
			return err
		}
		if s.out.json {
			return s.out.object(append([]fleet.InFlight{}, list...), false)
		}
		if len(list) == 0 {
			s.out.say("nothing is in flight")
			return nil
		}
		rows := make([][]string, len(list))
		for i, f := range list {
			slot, pid, attempt, progress := "-", "-", "-", "-"
			if f.Slot != nil {
				slot, pid, attempt = strconv.Itoa(*f.Slot), strconv.Itoa(f.PID), strconv.Itoa(f.Attempt)
			}
			if f.Progress != nil {
				progress = fmt.Sprintf("%.0f%% %s", 100**f.Progress, f.Message)
			}
			rows[i] = []string{orDash(f.TaskID), orDash(f.SessionID), orDash(f.GroupID), f.State, since(f.Since), attempt, orDash(f.Host), slot, pid, f.Run, progress}
		}
		s.out.table([]string{"TASK", "SESSION", "GROUP", "STATE", "FOR", "ATTEMPT", "HOST", "SLOT", "PID", "SIDECAR", "PROGRESS"}, rows)
		return nil
	})
}
