package acl

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// called are a script's words in capitals: commands, also where they are in a
// variable, and words that go with them.
var called = regexp.MustCompile(`'([A-Z]{3,})'`)

var noCommands = []string{"LIMIT", "MATCH", "COUNT", "WRONGTYPE"}

// Whatever a script calls is allowed: one that is refused in the middle has
// changed half of what it was to change.
func TestScriptsAreAllowed(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("..", "*.lua"))
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, path := range scripts {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range called.FindAllSubmatch(text, -1) {
			if name := strings.ToLower(string(call[1])); !slices.Contains(commands, name) && !slices.Contains(noCommands, string(call[1])) {
				t.Errorf("%s calls %s, which is not allowed", filepath.Base(path), name)
			}
		}
	}
}

func TestRules(t *testing.T) {
	plain := strings.Join(Rules(Needs{Prefix: "a*b"}), " ")
	for _, want := range []string{`~a\*b:queue `, `&a\*b:barrier_done:* `, "-@all ", "~graflow:channel:* "} {
		if !strings.Contains(plain, want) {
			t.Errorf("%q is missing in %s", want, plain)
		}
	}
	for _, unwanted := range []string{"graph:", "+@", "allkeys", "feedback", "+keys", "+config", "~* "} {
		if strings.Contains(plain, unwanted) {
			t.Errorf("%q is in %s", unwanted, plain)
		}
	}
	if named := strings.Join(Rules(Needs{Prefix: "p", Queue: "my*jobs"}), " "); !strings.Contains(named, `~my\*jobs ~p:completions:* `) || strings.Contains(named, "p:queue") {
		t.Errorf("a queue of another name: %s", named)
	}
	graflow := strings.Join(Rules(Needs{Prefix: "p", Graflow: true}), " ")
	for _, want := range []string{"~p:* ", "~feedback:request:* ", "~feedback:response:* ", "&feedback:* ", "+getex"} {
		if !strings.Contains(graflow, want) {
			t.Errorf("%q is missing in %s", want, graflow)
		}
	}
}

func TestSetUser(t *testing.T) {
	got := SetUser("w", Needs{Prefix: "a*"})
	if want := `ACL SETUSER w reset on >PASSWORD resetkeys resetchannels -@all '~a\*:queue' `; !strings.HasPrefix(got, want) {
		t.Errorf("%s\nbegins otherwise than\n%s", got, want)
	}
}
