package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestModelIsMapped compares the steps of docs/model/records.pml with the table of its
// README.md, the files in the table with those of the repository, and the model's mistakes
// with the list that scripts/model checks.
func TestModelIsMapped(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, "docs", "model", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	model := read("records.pml")
	var mapped []string
	_, table, _ := strings.Cut(read("README.md"), "## Steps and scripts")
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z-]+) \| .* \| (.*) \|$`).FindAllStringSubmatch(table, -1) {
		if row[1] == "step" || strings.HasPrefix(row[1], "---") {
			continue
		}
		mapped = append(mapped, row[1])
		for _, file := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[2], -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file[1]))); err != nil {
				t.Errorf("step %s is mapped to a file that does not exist: %s", row[1], file[1])
			}
		}
	}
	same(t, "steps of the model and rows of its README", submatches(model, `/\* step: ([a-z-]+) \*/`), mapped)
	same(t, "mistakes of the model and of mistakes.txt",
		submatches(model, `(?m)^#define ([A-Z]+_[A-Z_]+) +[0-9]+ +/\*`), submatches(read("mistakes.txt"), `(?m)^([A-Z]+_[A-Z_]+) `))
}

// submatches returns what the first group of a pattern matches.
func submatches(text, pattern string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// same fails if two lists differ as sets, or are empty.
func same(t *testing.T, what string, a, b []string) {
	t.Helper()
	slices.Sort(a)
	slices.Sort(b)
	a, b = slices.Compact(a), slices.Compact(b)
	if len(a) == 0 || !slices.Equal(a, b) {
		t.Errorf("%s differ:\n%v\n%v", what, a, b)
	}
}
