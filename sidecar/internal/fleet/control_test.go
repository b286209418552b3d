package fleet

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// queue notes the pauses that it is told of.
type queue struct{ note func(string) }

func (q queue) Quiet()  { q.note("quiet") }
func (q queue) Resume() { q.note("resume") }

// newControl returns a Control of a sidecar with a worker in slot 0, and what it does.
func newControl() (c *Control, log *testlog.Buffer, did *[]string) {
	log, did = &testlog.Buffer{}, new([]string)
	note := func(what string) { *did = append(*did, what) }
	return &Control{
		Queue: queue{note}, Unblock: func() { note("unblock") }, Announce: func() { note("announce") },
		Drain: func() { note("drain") }, Restart: func() { note("restart") },
		RestartSlot: func(slot int) bool { note("restart slot"); return slot == 0 },
		Log:         slog.New(slog.NewTextHandler(log, nil)),
	}, log, did
}

func TestCommandsAreCarriedOut(t *testing.T) {
	for name, c := range map[string]struct {
		command Command
		does    string // "" for nothing
		log     string // part of a line
		warns   bool
	}{
		"drain":                        {Command{Action: Drain, By: "ann"}, "drain", "by=ann", false},
		"restart of all workers":       {Command{Action: RestartChildren, By: "ann"}, "restart", "by=ann", false},
		"restart of a worker":          {Command{Action: RestartChild, Slot: 0, By: "ann"}, "restart slot", "slot=0", false},
		"a slot without a worker":      {Command{Action: RestartChild, Slot: 7}, "restart slot", "no worker to replace in this slot", true},
		"a command of a later sidecar": {Command{Action: "dance", By: "ann"}, "", "unknown command", true},
	} {
		t.Run(name, func(t *testing.T) {
			control, log, did := newControl()
			control.OnTick(false, false, []Command{c.command})
			if got := strings.Join(*did, " "); got != c.does {
				t.Errorf("did %q, want %q", got, c.does)
			}
			if text := log.String(); !strings.Contains(text, c.log) || strings.Contains(text, "level=WARN") != c.warns {
				t.Errorf("the log, want %q, warning %t:\n%s", c.log, c.warns, text)
			}
		})
	}
}

// Each reason to claim nothing ends by itself: a resume through Redis does not end what a
// signal asked for.
func TestReasonsToPauseEndByThemselves(t *testing.T) {
	control, _, did := newControl()
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"signal", func() { control.SetQuiet(true) }, []string{"announce", "quiet", "unblock"}},
		{"pause of all", func() { control.OnTick(false, true, nil) }, []string{"announce"}},
		{"pause of the run as well", func() { control.OnTick(true, true, nil) }, nil},
		{"resume of all and the run", func() { control.OnTick(false, false, nil) }, []string{"announce"}},
		{"signal to go on", func() { control.SetQuiet(false) }, []string{"announce", "resume"}},
	} {
		*did = nil
		step.do()
		if !slices.Equal(*did, step.want) {
			t.Errorf("%s: did %v, want %v", step.name, *did, step.want)
		}
	}
}
