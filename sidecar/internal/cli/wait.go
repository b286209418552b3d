package cli

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// outcome is what became of one task that was waited for.
type outcome struct {
	TaskID    string          `json:"task_id"`
	SessionID string          `json:"session_id"`
	Outcome   string          `json:"outcome"` // success, failure, unknown
	Error     string          `json:"error,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
}

const (
	lookEvery = 200 * time.Millisecond
	// groupKeep ends the command's group where the command is killed: its tasks no
	// longer count then.
	groupKeep = time.Minute
	renewing  = groupKeep / 4
	// cleanup is how long the keys of a group that is over may take to be removed.
	cleanup = 5 * time.Second
)

// waited is one group that is waited for: the command's or another producer's.
type waited struct {
	id    string
	named string       // as its records name it: ours not at all
	group *redis.Group // nil: another producer's
	tasks []string
	over  bool // it is waited for no longer
}

// enqueueAndWait pushes records and waits until each has an outcome.
func (s *session) enqueueAndWait(ctx context.Context, records []record, patience time.Duration) error {
	if err := distinct(records); err != nil {
		return err
	}
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, patience, errTimeUp)
		defer cancel()
	}
	ours := &waited{id: "sidecar-enqueue-" + rand.Text()}
	groups, raw := []*waited{ours}, make([][]byte, len(records))
	for i, r := range records {
		raw[i] = r.raw
		if r.info.GroupID == "" {
			quoted, _ := json.Marshal(ours.id)
			raw[i] = with(r.raw, "group_id", quoted)
			ours.tasks = append(ours.tasks, r.info.TaskID)
			continue
		}
		at := slices.IndexFunc(groups, func(g *waited) bool { return g.id == r.info.GroupID })
		if at < 0 {
			at = len(groups)
			groups = append(groups, &waited{id: r.info.GroupID, named: r.info.GroupID})
			open, err := s.st.GroupOpen(ctx, r.info.GroupID)
			if err != nil {
				return err
			}
			if !open {
				return no("the group %s has no open barrier, so the outcome would not be signalled: enqueue without --wait, or without a group", clean(r.info.GroupID))
			}
		}
		groups[at].tasks = append(groups[at].tasks, r.info.TaskID)
	}
	if len(ours.tasks) > 0 {
		g, err := s.st.OpenGroup(ctx, ours.id, len(ours.tasks))
		if err != nil {
			return err
		}
		ours.group = g
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), cleanup)
			defer cancel()
			if err := errors.Join(g.Close(ctx), s.st.ForgetGroup(ctx, ours.id)); err != nil {
				fmt.Fprintln(s.errOut, "sidecar: keys of the group "+ours.id+" could not be removed: "+clean(err.Error()))
			}
		}()
		if err := g.KeepFor(ctx, groupKeep); err != nil {
			return err
		}
	}
	if _, err := s.push(ctx, raw); err != nil {
		return err
	}
	got, err := s.await(ctx, groups, len(records))
	if err != nil && !errors.Is(err, errTimeUp) && !errors.Is(err, context.Canceled) {
		return err
	}
	return s.outcomes(records, got, err)
}

// distinct: completions are told apart by task ids.
func distinct(records []record) error {
	seen := make(map[string]bool, len(records))
	for _, r := range records {
		key := name(r.info.GroupID, r.info.TaskID)
		if seen[key] {
			return wrongUse("task %s is there twice: --wait tells tasks apart by their ids", clean(r.info.TaskID))
		}
		seen[key] = true
	}
	return nil
}

// await looks until all have ended. A Redis that goes and comes back meanwhile is
// waited for, too.
func (s *session) await(ctx context.Context, groups []*waited, total int) (map[string]redis.Completion, error) {
	bar := s.bar(total)
	got := make(map[string]redis.Completion)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	kept := time.Now()
	for {
		left := 0
		for _, g := range groups {
			if err := s.look(ctx, g, got); err != nil && redis.Classify(err) == redis.ClassFatal {
				return got, err
			}
			if g.group != nil && time.Since(kept) > renewing && g.group.KeepFor(ctx, groupKeep) == nil {
				kept = time.Now()
			}
			if !g.over {
				left += len(g.tasks)
			}
		}
		if bar != nil {
			_ = bar.Set(len(got)) // a bar that cannot be drawn changes nothing
		}
		if left == 0 {
			return got, nil
		}
		select {
		case <-ctx.Done():
			return got, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// look takes the tasks of a group that have ended off its list.
func (s *session) look(ctx context.Context, g *waited, got map[string]redis.Completion) error {
	if len(g.tasks) == 0 || g.over {
		return nil
	}
	open := true
	if g.group == nil { // before the completions, which its producer deletes together
		var err error
		if open, err = s.st.GroupOpen(ctx, g.id); err != nil {
			return err
		}
	}
	done, err := s.st.CompletionsOf(ctx, g.id, g.tasks...)
	if err != nil {
		return err
	}
	for id, c := range done {
		got[name(g.named, id)] = c
	}
	g.tasks = slices.DeleteFunc(g.tasks, func(id string) bool { _, ok := done[id]; return ok })
	g.over = !open
	return nil
}

func (s *session) bar(total int) *progressbar.ProgressBar {
	f, ok := s.errOut.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription("tasks"),
		progressbar.OptionShowCount(), progressbar.OptionSetWidth(40), progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(f) }))
}

// outcomes prints what became of the tasks and gives the exit status. ended is why
// the wait did, if not all have.
func (s *session) outcomes(records []record, got map[string]redis.Completion, ended error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	list, failed, unknown := make([]outcome, len(records)), 0, 0
	for i, r := range records {
		o := outcome{TaskID: r.info.TaskID, SessionID: r.info.SessionID, Outcome: "unknown"}
		c, ok := got[name(r.info.GroupID, r.info.TaskID)]
		switch {
		case !ok:
			unknown++
		case c.Success:
			o.Outcome = "success"
			if result, there, err := s.st.Result(ctx, r.info.SessionID, r.info.TaskID); err == nil && there && json.Valid(result) {
				o.Result = result
			}
		default:
			failed++
			o.Outcome = "failure"
			if c.ErrorMessage != nil {
				o.Error = *c.ErrorMessage
			}
		}
		list[i] = o
	}
	if s.out.json {
		if err := s.out.object(list, false); err != nil {
			return err
		}
	} else {
		rows := make([][]string, len(list))
		for i, o := range list {
			rows[i] = []string{o.TaskID, o.Outcome, orDash(o.Error + string(o.Result))}
		}
		s.out.table([]string{"TASK", "OUTCOME", "RESULT OR ERROR"}, rows)
	}
	switch {
	case errors.Is(ended, errTimeUp):
		return &StatusError{statusUnreachable, fmt.Errorf("%w: %d of %d have no outcome yet, and go on", errTimeUp, unknown, len(list))}
	case ended != nil:
		return &StatusError{statusInterrupted, fmt.Errorf("interrupted: %d of %d have no outcome yet, and go on", unknown, len(list))}
	case failed > 0:
		return no("%d of %d failed", failed, len(list))
	case unknown > 0:
		return no("the group of %d of %d ended before they had an outcome", unknown, len(list))
	}
	return nil
}

// name tells tasks apart.
func name(group, task string) string { return group + "\x00" + task }
