package arch

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// headOfPatch is what scripts/reintroduce reads of a patch: the point of the list of
// faults, what goes wrong, and the fast tests of that code.
var headOfPatch = regexp.MustCompile(`^Point: (\d+)\nFault: [a-zA-Z/].*[^.\n]\nTests: (\S.*)\n\ndiff --git `)

// A patch that no longer applies reintroduces no fault, and the search for it shows
// nothing.
func TestReintroducedFaultsApply(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal("git is missing: apt-get install git")
	}
	patches, err := filepath.Glob(filepath.Join(repo, "sidecar/test/reintroduced/*.patch"))
	if err != nil || len(patches) == 0 {
		t.Fatalf("no patches (%v): the check guards nothing", err)
	}
	points := make(map[string]bool)
	for _, path := range patches {
		name := filepath.Base(path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		head := headOfPatch.FindSubmatch(text)
		if head == nil {
			t.Errorf("%s: its head must have the lines Point, Fault and Tests, and then the diff", name)
			continue
		}
		points[string(head[1])] = true
		for test := range strings.FieldsSeq(string(head[2])) {
			folder := test
			if module, python := strings.CutPrefix(test, "python:"); python {
				folder = "examples/python-worker/" + strings.ReplaceAll(module, ".", "/") + ".py"
			}
			if _, err := os.Stat(filepath.Join(repo, folder)); err != nil {
				t.Errorf("%s: there are no tests %s", name, test)
			}
		}
		check := exec.Command(git, "apply", "--check", filepath.Join("sidecar/test/reintroduced", name))
		check.Dir = repo
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s does not apply: make the same fault in the code as it is, and write the patch anew\n%s", name, out)
		}
	}
	// Each point of the list has a patch.
	for point := 1; point <= 28; point++ {
		if text := strconv.Itoa(point); !points[text] {
			t.Errorf("no patch reintroduces a fault of point %s", text)
		}
	}
}
