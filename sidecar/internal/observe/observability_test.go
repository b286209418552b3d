package observe

import (
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// A list of sidecars must show the one that does not work, and a crash loop in every state:
// one that begins before the first claim has left the sidecar in the state starting.
func TestTheProblemOfASidecar(t *testing.T) {
	const crash = "the workers keep dying" // as operators and alerts know it
	for _, c := range []struct {
		name string
		s    Snapshot
		want string // part of the problem; "" for none
	}{
		{"ready", Snapshot{State: Running, Ready: true}, ""},
		{"starting", Snapshot{State: Starting, Wanted: 2}, ""},
		{"a worker is missing", Snapshot{State: Running, Workers: 1, Wanted: 2}, "1 of 2 workers are up"},
		{"crash loop", Snapshot{State: Running, CrashLoop: true}, crash},
		{"crash loop with all workers up", Snapshot{State: Running, CrashLoop: true, Workers: 2, Wanted: 2}, crash},
		{"crash loop at the start", Snapshot{State: Starting, CrashLoop: true, Wanted: 2}, crash},
		{"crash loop in a pause", Snapshot{State: Paused, Paused: true, CrashLoop: true}, crash},
		{"crash loop after SIGTSTP", Snapshot{State: Quiet, CrashLoop: true}, crash},
		{"crash loop in a stop", Snapshot{State: Stopping, CrashLoop: true}, crash},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config.Default()
			b := New(Options{Config: &cfg, Snapshot: func() Snapshot { return c.s }, Run: func() string { return "run" }})
			got := b.Self().Problem
			if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("problem %q, want %q", got, c.want)
			}
		})
	}
}
