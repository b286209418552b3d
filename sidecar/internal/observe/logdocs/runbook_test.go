package logdocs

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..", "..", "..")

// sources calls f for every file of the sidecar that is not a test's.
func sources(t *testing.T, f func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(root, "sidecar"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"testdata", "redistest", "faultproxy", "runbook"}, d.Name()) {
			return filepath.SkipDir
		}
		if d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		n++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f(path, fset, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 100 {
		t.Fatalf("%d files: the sources are elsewhere", n)
	}
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// isLevel reports whether an expression is a level of slog's that is looked after
// here, or one that is only known when the line is written.
func isLevel(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return !ok || sel.Sel.Name == "LevelWarn" || sel.Sel.Name == "LevelError"
}

// by whom a line is written whose level and words are a worker's, or come from a
// function whose returns are looked at instead.
var others = []string{"worker log", "worker stderr"}

// messages are those of every line of the log that may be a warning or an error, in
// whichever of slog's forms.
func messages(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	sources(t, func(_ string, fset *token.FileSet, file *ast.File) {
		add := func(e ast.Expr) bool {
			text, ok := literal(e)
			if ok && !slices.Contains(others, text) {
				found[text] = fset.Position(e.Pos()).String()
			}
			return ok
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch at := map[string]int{"Warn": 0, "Error": 0, "WarnContext": 1, "ErrorContext": 1}; {
				case sel.Sel.Name == "Log" || sel.Sel.Name == "LogAttrs":
					// Another Log, or the words of a function that returns them.
					if len(n.Args) > 2 && isLevel(n.Args[1]) {
						add(n.Args[2])
					}
				default:
					if i, ok := at[sel.Sel.Name]; ok && len(n.Args) > i && !add(n.Args[i]) {
						t.Errorf("%s: the message is no constant, so that nothing can be said about it", fset.Position(n.Pos()))
					}
				}
			case *ast.ReturnStmt: // a level and its words
				if len(n.Results) == 2 {
					if sel, ok := n.Results[0].(*ast.SelectorExpr); ok && isLevel(sel) {
						add(n.Results[1])
					}
				}
			}
			return true
		})
	})
	return found
}

// Every warning and every error is explained, and nothing that nobody says.
func TestEveryLineIsExplained(t *testing.T) {
	found := messages(t)
	for message, where := range found {
		if See(message) == "" {
			t.Errorf("%s: %q has no place in docs/operations.md: give it one in lines.go", where, message)
		}
	}
	for message := range lines {
		if found[message] == "" {
			t.Errorf("%q is in lines.go, and nobody says it", message)
		}
	}
}

// document is docs/operations.md, with what a link to each heading is called.
func document(t *testing.T) (text string, anchors map[string]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	text, anchors = string(b), map[string]string{}
	heading := ""
	for line := range strings.Lines(text) {
		if hashes, title, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.Trim(hashes, "#") == "" {
			heading = slug(title)
			if _, twice := anchors[heading]; twice {
				t.Errorf("two headings are called %s", heading)
			}
			anchors[heading] = ""
			continue
		}
		anchors[heading] += line
	}
	return text, anchors
}

var notInSlugs = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// slug is what GitHub makes of a heading.
func slug(title string) string {
	return strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(title), ""), " ", "-")
}

// Every anchor is there, and what is said under it names the message.
func TestEveryAnchorIsThere(t *testing.T) {
	_, anchors := document(t)
	for message, anchor := range lines {
		section, ok := anchors[anchor]
		if !ok {
			t.Errorf("%q: docs/operations.md has no heading %s", message, anchor)
		} else if words := strings.Join(strings.Fields(section), " "); !strings.Contains(words, "`"+message+"`") {
			t.Errorf("docs/operations.md#%s does not name `%s`", anchor, message)
		}
	}
	for _, topic := range Topics {
		if _, ok := anchors[string(topic)]; !ok {
			t.Errorf("docs/operations.md has no heading %s", topic)
		}
	}
}

var alertName = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)

// Every alert is explained, where its runbook_url says, and nothing else is.
func TestEveryAlertIsExplained(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	_, anchors := document(t)
	alerts := map[string]bool{}
	for _, match := range alertName.FindAllStringSubmatch(string(rules), -1) {
		name := strings.ToLower(match[1])
		alerts[name] = true
		if anchors[name] == "" {
			t.Errorf("docs/operations.md says nothing about %s", match[1])
		}
		if n := strings.Count(string(rules), "/docs/operations.md#"+name+"\n"); n != 1 {
			t.Errorf("%s: %d rules have its runbook_url", match[1], n)
		}
	}
	if len(alerts) == 0 {
		t.Error("no alerts found: the rules look different now")
	}
	for anchor := range anchors {
		if strings.HasPrefix(anchor, "graflow") && !alerts[anchor] {
			t.Errorf("docs/operations.md#%s is about an alert that is not there", anchor)
		}
	}
}

var (
	link      = regexp.MustCompile(`\]\(#([a-z0-9-]+)\)`)
	className = regexp.MustCompile(`(?:Class\w+|return)(?:,| \(?)? ?"([a-z_]+)"`)
)

func TestLinksWithinTheDocument(t *testing.T) {
	text, anchors := document(t)
	links := link.FindAllStringSubmatch(text, -1)
	for _, match := range links {
		if _, ok := anchors[match[1]]; !ok {
			t.Errorf("docs/operations.md links to #%s, which is no heading", match[1])
		}
	}
	if len(links) < 10 {
		t.Errorf("%d links found", len(links))
	}
}

// Every class that the store gives to an error of Redis is in the table.
func TestEveryClassIsExplained(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "sidecar", "internal", "redis", "errors.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, anchors := document(t)
	classes := className.FindAllStringSubmatch(string(source), -1)
	for _, match := range classes {
		if !strings.Contains(anchors["classes-of-redis-errors"], "`"+match[1]+"`") {
			t.Errorf("docs/operations.md says nothing about the class %s", match[1])
		}
	}
	if len(classes) < 20 {
		t.Errorf("%d classes found: %v", len(classes), classes)
	}
}

// Every type of error of the sidecar is one that package main gives a topic, or is
// known here for what it is.
func TestEveryErrorTypeIsKnown(t *testing.T) {
	known := map[string]string{
		"RefusedError": string(Refused), "LocalRedisError": string(EmbeddedRedis), "PanicError": string(Bug), "StalledError": string(Bug), "Error": string(Config),
		"UsageError": string(Usage), "CrashLoopError": string(CrashLoop), "StartError": string(WorkerStart),
		"refusal":          string(WorkerStart),                                         // of the system, to start a command
		"StatusError":      string(Unreachable),                                         // or an answer that is no
		"UnsupportedError": lines["workers cannot be forked: starting them one by one"], // ends in that line
		"Panic":            string(Bug),                                                 // becomes a PanicError
		// What Redis refuses of one task is that task's failure, and a worker's answer.
		"RejectedError": lines["task failed"], "droppedError": lines["task failed"],
		"lastReply": lines["redis is lost, waiting for it"], // or becomes a RejectedError
		"dialError": lines["redis is lost, waiting for it"], // has a class of its own there
	}
	sources(t, func(_ string, fset *token.FileSet, file *ast.File) {
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Name.Name != "Error" || f.Recv == nil || len(f.Type.Params.List) > 0 {
				continue
			}
			typ := f.Recv.List[0].Type
			if star, ok := typ.(*ast.StarExpr); ok {
				typ = star.X
			}
			if name := typ.(*ast.Ident).Name; known[name] == "" {
				t.Errorf("%s: %s is an error that docs/operations.md does not know", fset.Position(f.Pos()), name)
			}
		}
	})
}

func TestHandler(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(Handler(slog.NewTextHandler(&b, nil))).With("slot", 1).WithGroup("g")
	log.Warn("redis is still lost", "for", "10s")
	log.Warn("something else")
	log.Info("redis is still lost")
	want := []string{" see=docs/operations.md#redis-is-lost", "", ""}
	for i, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		_, see, _ := strings.Cut(line, "see=")
		if got := strings.TrimPrefix(want[i], " see="); see != got {
			t.Errorf("%s\nsee %q, want %q", line, see, got)
		}
	}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("the level is not the handler's")
	}
}
