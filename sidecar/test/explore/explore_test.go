package explore

import (
	"os"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/luascripts"
)

// sources returns the scripts, with edits: a file, a text in it, and another text.
func sources(t *testing.T, edits ...[3]string) map[string]string {
	t.Helper()
	files, err := luascripts.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, edit := range edits {
		if err := luascripts.Edit(files, edit[0], edit[1], edit[2]); err != nil {
			t.Fatal(err)
		}
	}
	all, err := luascripts.Sources(files)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestExplore searches the scopes that EXPLORE names, "quick" by default.
func TestExplore(t *testing.T) {
	name := os.Getenv("EXPLORE")
	if name == "" {
		name = "quick"
	}
	scopes, err := Scopes(name)
	if err != nil {
		t.Fatal(err)
	}
	all := sources(t)
	began, states, transitions := time.Now(), 0, 0
	for _, scope := range scopes {
		r, err := Explore(scope, all)
		if err != nil {
			t.Fatal(err)
		}
		r.Print(t.Output())
		if r.Violation != "" {
			t.Fatalf("%s: %s", scope.Name, r.Violation)
		}
		states, transitions = states+r.States, transitions+r.Transitions
	}
	t.Logf("%s: %d scopes, %d states, %d transitions, no violation, every record ends; %.0f s",
		name, len(scopes), states, transitions, time.Since(began).Seconds())
}
