package luamutant

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/gopher-lua/parse"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		script string
		want   []string // the changed scripts
	}{
		{"f(x)", []string{""}},
		{"a.b[i], c = g{x}, h:m(y) -- a comment", []string{" -- a comment"}},
		{"return", []string{""}},
		{"for k, v in pairs(t) do end", []string{""}},
		{"local a, b = c, d", []string{"local a, b"}},
		{"local function f(a, ...) local b end", nil},
		{"while x do break end", []string{"while false do break end", "while x do  end"}},
		{"repeat until x", []string{"repeat until true"}},
		{"if x then elseif y then else end", []string{
			"if true then elseif y then else end", "if false then elseif y then else end",
			"if x then elseif true then else end", "if x then elseif false then else end",
		}},
		{"local a = b and c", []string{"local a", "local a = b", "local a = c", "local a = b or c"}},
		{"local a = not b", []string{"local a", "local a =   b"}},
		{"local a = b <= 1", []string{"local a", "local a = b < 1", "local a = b <= 2"}},
		{"local a = 'x' .. \"\"", []string{"local a", "local a = 'x~' .. \"\"", "local a = 'x' .. \"~\""}},
		{"local a = { b = true, [c] = math.min(d) }", []string{
			"local a", "local a = { b = false, [c] = math.min(d) }", "local a = { b = true, [c] = math.max(d) }",
		}},
		{"local a = b or c and d", []string{
			"local a", "local a = b", "local a = c and d", "local a = b and c and d",
			"local a = b or c", "local a = b or d", "local a = b or c or d",
		}},
	} {
		mutants, err := Of("x.lua", c.script)
		if err != nil {
			t.Errorf("%s: %v", c.script, err)
			continue
		}
		var got []string
		for _, m := range mutants {
			got = append(got, m.Apply(c.script))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.script, got, c.want)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, script := range []string{"f(", "if x", "'a", "local 1", "--[[ x ]]", "end"} {
		if _, err := Of("x.lua", script); err == nil {
			t.Errorf("%q has no error", script)
		}
	}
}

// Each mutant of the scripts in use is a valid script.
func TestMutantsAreValid(t *testing.T) {
	files, err := filepath.Glob("../../../internal/redis/*.lua")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mutants, err := Of(file, string(script))
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s: %d", file, len(mutants))
		for _, m := range mutants {
			if _, err := parse.Parse(strings.NewReader(m.Apply(string(script))), file); err != nil {
				t.Errorf("%s: %v", m, err)
			}
		}
	}
}
