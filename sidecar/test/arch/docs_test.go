package arch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// repo is the root of the repository.
const repo = "../../.."

var (
	// quoted is a path in backticks. In NAME.go and the like, NAME is a placeholder.
	quoted = regexp.MustCompile("`([A-Za-z0-9_./*-]+)`")
	// roots are the folders that a path in a document begins with.
	roots = []string{"sidecar", "internal", "protocol", "examples", "docs", "deploy", "bench", "scripts", "tools", ".ci"}

	// declared is a test in Go or Python, named one that a page names.
	declared = regexp.MustCompile(`(?m)^(?:func|\s*(?:async )?def) ([Tt]est\w+)\(`)
	named    = regexp.MustCompile("`(Test[A-Z]\\w*|test_\\w+)`")

	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	status  = regexp.MustCompile(`(?m)^\*\*Status\.\*\* (Accepted|Superseded)`)
	fence   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
)

// TestPathsInArchitectureExist checks the paths in the documents that tell where
// something is.
func TestPathsInArchitectureExist(t *testing.T) {
	for _, doc := range []string{"docs/architecture.md", "docs/adr/README.md", "docs/testing.md"} {
		n := 0
		for _, m := range quoted.FindAllStringSubmatch(read(t, doc), -1) {
			root, _, isPath := strings.Cut(m[1], "/")
			if !isPath || !slices.Contains(roots, root) || strings.Contains(m[1], "NAME") {
				continue
			}
			n++
			if found, err := filepath.Glob(filepath.Join(repo, m[1])); err != nil || len(found) == 0 {
				t.Errorf("%s names `%s`, which does not exist: correct the path in the document", doc, m[1])
			}
		}
		if n == 0 {
			t.Errorf("%s names no path: the check guards nothing", doc)
		}
	}
}

// TestLinksOfDocumentsResolve checks every relative link between the documents, with
// its anchor.
func TestLinksOfDocumentsResolve(t *testing.T) {
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, doc), ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := doc
			if path != "" {
				target = filepath.Join(filepath.Dir(doc), path)
			}
			if _, err := os.Stat(filepath.Join(repo, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", doc, m[1])
				continue
			}
			if anchor != "" && !anchors(read(t, target))[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", doc, m[1], target)
			}
		}
	}
}

// TestEveryDocumentIsReachable checks that links lead from the README to every document.
func TestEveryDocumentIsReachable(t *testing.T) {
	all, reached := documents(t), map[string]bool{}
	for next := []string{"README.md"}; len(next) > 0; {
		doc := next[0]
		next = next[1:]
		if reached[doc] || !slices.Contains(all, doc) {
			continue
		}
		reached[doc] = true
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, doc), ""), -1) {
			path, _, _ := strings.Cut(m[1], "#")
			target := filepath.Join(filepath.Dir(doc), path)
			next = append(next, target, filepath.Join(target, "README.md"))
		}
	}
	for _, doc := range all {
		if !reached[doc] {
			t.Errorf("no link leads from README.md to %s", doc)
		}
	}
}

// TestIndexesAreComplete checks that docs/README.md lists every page and docs/adr/README.md
// every decision once, under its title, and that each decision has a status.
func TestIndexesAreComplete(t *testing.T) {
	for _, index := range []string{"docs/README.md", "docs/adr/README.md"} {
		text := read(t, index)
		pages, err := filepath.Glob(filepath.Join(repo, filepath.Dir(index), "*.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			name := filepath.Base(page)
			if name != "README.md" && !strings.Contains(text, "]("+name+")") {
				t.Errorf("%s does not list %s", index, name)
			}
		}
	}
	index := read(t, "docs/adr/README.md")
	decisions, err := filepath.Glob(filepath.Join(repo, "docs/adr/0*.md"))
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	for _, path := range decisions {
		name := filepath.Base(path)
		title, _, _ := strings.Cut(read(t, "docs/adr/"+name), "\n")
		number, title, _ := strings.Cut(strings.TrimPrefix(title, "# "), ". ")
		if row := "| " + number + " | [" + title + "](" + name + ") |"; strings.Count(index, row) != 1 || strings.Count(index, "("+name+") |") != 1 {
			t.Errorf("docs/adr/README.md does not have %q once", row)
		}
		if !status.MatchString(read(t, "docs/adr/"+name)) {
			t.Errorf("docs/adr/%s has no line **Status.** Accepted… or Superseded…", name)
		}
	}
}

// TestPagesNameTestsThatExist checks the tests that the pages name as their evidence.
func TestPagesNameTestsThatExist(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(repo, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return filepath.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") && !strings.HasSuffix(path, ".py") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(repo, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, page := range pages {
		for _, m := range named.FindAllStringSubmatch(read(t, "docs/"+filepath.Base(page)), -1) {
			if n++; !there[m[1]] {
				t.Errorf("docs/%s names %s, and there is no such test", filepath.Base(page), m[1])
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d tests are named", n)
	}
}

// documents are the Markdown files of the repository, relative to its root.
func documents(t *testing.T) []string {
	t.Helper()
	var docs []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "bench/*.md", "protocol/*.md", "examples/*/*.md", "deploy/*.md", "sidecar/test/*.md", "sidecar/test/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(repo, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			rel, err := filepath.Rel(repo, path)
			if err != nil {
				t.Fatal(err)
			}
			docs = append(docs, rel)
		}
	}
	return docs
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repo, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors are the names by which links reach the headings of a document, as GitHub
// makes them.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		var b strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(m[1])) {
			switch {
			case r == ' ':
				b.WriteByte('-')
			case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r > 127 && !strings.ContainsRune("…–—’", r):
				b.WriteRune(r)
			}
		}
		name := b.String()
		for i := 1; names[name]; i++ {
			name = fmt.Sprintf("%s-%d", b.String(), i)
		}
		names[name] = true
	}
	return names
}
