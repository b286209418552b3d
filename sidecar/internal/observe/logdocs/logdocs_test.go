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

	"github.com/graflow/graflow-sidecar/docs"
)

var root = filepath.Join("..", "..", "..", "..")

// sources calls f for every file of the product that is not a test's.
func sources(t *testing.T, f func(path string, fset *token.FileSet, file *ast.File)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(filepath.Join(root, "sidecar"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains([]string{"testdata", "test", "logdocs"}, d.Name()) {
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

// isLevel reports whether an expression is a level of slog's, or one that is only known
// when the line is written.
func isLevel(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return !ok || strings.HasPrefix(sel.Sel.Name, "Level")
}

// isLogger reports whether an expression is called as loggers are. TestLoggersAreNamedLog
// has all of them called so.
func isLogger(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "slog" || strings.EqualFold(e.Name, "log")
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "log")
	}
	return false
}

// unlisted are the messages of lines whose words are a worker's.
var unlisted = []string{"worker log", "worker stderr", "worker stdout"}

// call is where a message is logged.
type call struct {
	where   string
	warning bool // a warning or an error, or a level that is known at run time only
}

// logCalls returns the messages of all lines of the log, in whichever of slog's forms.
func logCalls(t *testing.T) map[string]call {
	t.Helper()
	found := map[string]call{}
	sources(t, func(_ string, fset *token.FileSet, file *ast.File) {
		add := func(e ast.Expr, warning bool) bool {
			text, ok := literal(e)
			if ok && !slices.Contains(unlisted, text) {
				found[text] = call{fset.Position(e.Pos()).String(), warning || found[text].warning}
			}
			return ok
		}
		isWarning := func(e ast.Expr) bool {
			sel, ok := e.(*ast.SelectorExpr)
			return !ok || sel.Sel.Name == "LevelWarn" || sel.Sel.Name == "LevelError"
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				sel, ok := n.Fun.(*ast.SelectorExpr)
				if !ok || !isLogger(sel.X) {
					return true
				}
				name, at := strings.TrimSuffix(sel.Sel.Name, "Context"), 0
				if name != sel.Sel.Name {
					at = 1
				}
				switch name {
				case "Log", "LogAttrs":
					// In place of a constant it may have the words of a function that returns
					// them, or the name of a worker's stream.
					if len(n.Args) > 2 && isLevel(n.Args[1]) {
						add(n.Args[2], isWarning(n.Args[1]))
					}
				case "Debug", "Info", "Warn", "Error":
					if !add(n.Args[at], name == "Warn" || name == "Error") && !isWorkerStream(n.Args[at]) {
						t.Errorf("%s: the message is no constant and has no id", fset.Position(n.Pos()))
					}
				}
			case *ast.ReturnStmt: // a level and its words
				if len(n.Results) == 2 {
					if sel, ok := n.Results[0].(*ast.SelectorExpr); ok && isLevel(sel) {
						add(n.Results[1], isWarning(sel))
					}
				}
			}
			return true
		})
	})
	return found
}

// isWorkerStream reports whether an expression is the field that names the stream of a
// worker.
func isWorkerStream(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "msg"
}

// The search for log calls goes by the name of the logger.
func TestLoggersAreNamedLog(t *testing.T) {
	sources(t, func(_ string, fset *token.FileSet, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok {
				return true
			}
			star, ok := field.Type.(*ast.StarExpr)
			if !ok {
				return true
			}
			typ, ok := star.X.(*ast.SelectorExpr)
			if !ok || typ.Sel.Name != "Logger" {
				return true
			}
			if pkg, ok := typ.X.(*ast.Ident); !ok || pkg.Name != "slog" {
				return true
			}
			for _, name := range field.Names {
				if !isLogger(name) {
					t.Errorf("%s: name the logger log in place of %s", fset.Position(name.Pos()), name.Name)
				}
			}
			return true
		})
	})
}

// Each message in the sources is in the table, and each entry of the table is used. A
// warning or an error has a section.
func TestEveryMessageHasAnID(t *testing.T) {
	found := logCalls(t)
	for message, c := range found {
		id := ID(message)
		if id == "" {
			t.Errorf("%s: give %q an id in messages.go", c.where, message)
		} else if _, ok := Find(id); !ok && c.warning {
			t.Errorf("%s: give %s a section in docs/operations.md", c.where, id)
		}
	}
	for id, message := range messages {
		if _, ok := found[message]; !ok {
			t.Errorf("messages.go: no line of the log is %s: %q", id, message)
		}
	}
	if len(ids()) != len(messages) {
		t.Error("messages.go: two ids have one message")
	}
}

var (
	idForm      = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	messageForm = regexp.MustCompile(`^[a-z][^\n"]*[^ .!\n"]$`)
)

// Messages are short and in lower case, and ids are words with hyphens.
func TestMessagesAndIDsAreShort(t *testing.T) {
	const mostID, mostMessage = 30, 60
	for id, message := range messages {
		if !idForm.MatchString(id) || len(id) > mostID {
			t.Errorf("the id %q is not of the form some-words, or longer than %d", id, mostID)
		}
		if !messageForm.MatchString(message) || len(message) > mostMessage {
			t.Errorf("%s: %q does not begin in lower case, ends like a sentence, or is longer than %d", id, message, mostMessage)
		}
	}
}

// Each id in the document exists and stands there once, with the message that it has.
func TestEveryIDOfTheDocumentExists(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Sections() {
		for _, e := range s.Entries {
			if seen[e.ID] {
				t.Errorf("%s is in two sections", e.ID)
			}
			seen[e.ID] = true
			message, logged := Message(e.ID)
			switch {
			case logged && e.Meaning != message:
				t.Errorf("docs/operations.md: %s is %q, and the message is %q", e.ID, e.Meaning, message)
			case logged, e.ID == s.Title, strings.HasPrefix(e.ID, "doctor-"), e.ID == "redis-error-classes", slices.Contains(Errors, e.ID):
			default:
				t.Errorf("docs/operations.md: nothing has the id %s", e.ID)
			}
		}
		if !strings.Contains(s.body, "Do: ") && s.Entries[0].ID != "redis-error-classes" {
			t.Errorf("the section %q does not say what to do", s.Title)
		}
	}
	for _, id := range Errors {
		if !seen[id] {
			t.Errorf("docs/operations.md has no section of %s", id)
		}
	}
}

// section returns the section of an id that the test relies on.
func section(t *testing.T, id string) Section {
	t.Helper()
	s, ok := Find(id)
	if !ok {
		t.Fatalf("docs/operations.md has no section of %s", id)
	}
	return s
}

var alertName = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)

// Each alert has a section, which its runbook_url leads to, and each section of an alert
// has a rule.
func TestEveryAlertHasASection(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	alerts := map[string]bool{}
	for _, match := range alertName.FindAllStringSubmatch(string(rules), -1) {
		alerts[match[1]] = true
		if s, ok := Find(match[1]); !ok || s.Title != match[1] {
			t.Errorf("docs/operations.md has no section %s", match[1])
		}
		if n := strings.Count(string(rules), "/docs/operations.md#"+strings.ToLower(match[1])+"\n"); n != 1 {
			t.Errorf("%s: %d rules have its runbook_url", match[1], n)
		}
	}
	if len(alerts) == 0 {
		t.Error("no alerts found: the rules look different now")
	}
	for _, s := range Sections() {
		if strings.HasPrefix(s.Title, "Graflow") && !alerts[s.Title] {
			t.Errorf("docs/operations.md: there is no alert %s", s.Title)
		}
	}
}

var className = regexp.MustCompile(`(?:Class\w+|return)(?:,| \(?)? ?"([a-z_]+)"`)

// Links within the document lead to a heading, and headings differ.
func TestLinksWithinTheDocument(t *testing.T) {
	anchors := map[string]bool{}
	for line := range strings.Lines(docs.Operations) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			anchor := slug(strings.TrimSpace(title))
			if anchors[anchor] {
				t.Errorf("two headings have the anchor %s", anchor)
			}
			anchors[anchor] = true
		}
	}
	links := 0
	for _, match := range link.FindAllStringSubmatch(docs.Operations, -1) {
		if anchor, within := strings.CutPrefix(match[2], "#"); within {
			links++
			if !anchors[anchor] {
				t.Errorf("docs/operations.md links to #%s, which is no heading", anchor)
			}
		}
	}
	if links < 10 {
		t.Errorf("%d links found", links)
	}
}

// Each class that the store gives to an error of Redis is in the table.
func TestEveryClassIsExplained(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(root, "sidecar", "internal", "redis", "errors.go"))
	if err != nil {
		t.Fatal(err)
	}
	table := section(t, "redis-error-classes").body
	classes := className.FindAllStringSubmatch(string(source), -1)
	for _, match := range classes {
		if !strings.Contains(table, "`"+match[1]+"`") {
			t.Errorf("docs/operations.md has no class %s", match[1])
		}
	}
	if len(classes) < 20 {
		t.Errorf("%d classes found: %v", len(classes), classes)
	}
}

// Each type of error has an id: that of a command's end, or of the line that it becomes.
func TestEveryErrorTypeHasAnID(t *testing.T) {
	known := map[string]string{
		"RefusedError": RedisRefused, "WrongTypeError": RedisRefused, "QueueError": RedisRefused, "FormatError": RedisFormat, "LocalRedisError": EmbeddedRedisEnded, "PanicError": InternalError, "StalledError": InternalError, "Error": ConfigError,
		"UsageError": UsageError, "CrashLoopError": CrashLoop, "StartError": WorkerStartFailure,
		"refusal":          WorkerStartFailure,        // of the system, to start a command
		"StatusError":      RedisUnreachable,          // or an answer that is no
		"UnsupportedError": "fork-server-unsupported", // ends in that line
		"Panic":            InternalError,             // becomes a PanicError
		// What Redis refuses of one task is that task's failure, and a worker's answer.
		"RejectedError": "task-failed", "droppedError": "task-failed",
		"lastReply": "redis-lost", // or becomes a RejectedError
		"dialError": "redis-lost", // has a class of its own there
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
				t.Errorf("%s: the error %s has no id", fset.Position(f.Pos()), name)
			}
		}
	})
	for _, id := range known {
		section(t, id)
	}
}

func TestHandler(t *testing.T) {
	var b bytes.Buffer
	log := slog.New(Handler(slog.NewTextHandler(&b, nil))).With("slot", 1).WithGroup("g")
	log.Warn("redis is still lost", "for", "10s")
	log.Warn("something else")
	log.Info("sidecar is ready")
	log.Info("worker stderr", "line", "redis is lost, waiting for it")
	want := []string{
		`g.for=10s g.id=redis-still-lost g.explain="sidecar explain redis-still-lost"`, "", "g.id=sidecar-ready",
		`g.line="redis is lost, waiting for it"`,
	}
	for i, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		_, got, _ := strings.Cut(line, "slot=1")
		if strings.TrimSpace(got) != want[i] {
			t.Errorf("%s\nhas %q, want %q", line, got, want[i])
		}
	}
	if log.Enabled(context.Background(), slog.LevelDebug) {
		t.Error("the level is not the handler's")
	}
}

func TestFind(t *testing.T) {
	for _, id := range []string{"redis-lost", "redis-still-lost", "Redis-Lost"} {
		if s := section(t, id); s.Title != "Redis outage" {
			t.Errorf("%s is in %q", id, s.Title)
		}
	}
	if s := section(t, "graflowpaused"); s.Title != "GraflowPaused" || len(s.Entries) != 1 || s.Entries[0].ID != s.Title || s.Entries[0].Meaning == "" {
		t.Errorf("an alert is %+v", s)
	}
	for _, id := range []string{"", "sidecar-ready", "Alerts", "redis"} {
		if s, ok := Find(id); ok {
			t.Errorf("%q is in %q", id, s.Title)
		}
	}
	if all := IDs(); len(all) < len(messages)+len(Errors) || !slices.Contains(all, "sidecar-ready") || !slices.Contains(all, "GraflowPaused") || !slices.IsSorted(all) {
		t.Errorf("%d ids: %v", len(all), all)
	}
}
