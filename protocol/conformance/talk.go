package conformance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// talk is a dialogue with one worker. Its methods are for one goroutine, but for
// tell.
type talk struct {
	*kit
	ctx         context.Context
	peer        *peer
	processID   string
	concurrency int
	asked       time.Time // when something was sent last
	heard       int       // the place of the last answer that was awaited

	mu      sync.Mutex
	name    string   // of the check that is being made
	excerpt []string // the end of the dialogue
	stderr  []string // and of what the worker logs
}

// undone is the error of a check that could not be made after all.
type undone string

func (u undone) Error() string { return string(u) }

// check plays one section.
func (t *talk) check(c *check) Result {
	t.mu.Lock()
	t.name = c.name
	t.mu.Unlock()
	r := Result{Check: c.name, Rules: c.rules, Requires: c.requires, Status: Passed}
	err := t.steps(c)
	var why undone
	switch {
	case err == nil:
	case errors.As(err, &why):
		r.Status, r.Seen = NotChecked, string(why)
	default:
		r.Status, r.Seen = Failed, err.Error()
		t.mu.Lock()
		for _, line := range slices.Concat(t.excerpt, t.stderr) {
			r.Detail += line + "\n"
		}
		t.mu.Unlock()
	}
	return r
}

func (t *talk) steps(c *check) error {
	steps := c.steps
	if first := steps[0].verb; t.peer == nil && first != "spawn" && first != "start" {
		if err := t.start(c.start); err != nil {
			return err
		}
	}
	for _, need := range c.needs {
		if need == "one" && t.concurrency != 1 {
			return undone(fmt.Sprintf("needs a worker that runs one task at a time; this one runs %d", t.concurrency))
		}
	}
	if t.concurrency > mostTasks && slices.ContainsFunc(steps, func(s step) bool { return s.each }) {
		return undone(fmt.Sprintf("needs a worker that runs at most %d tasks at once; this one runs %d", mostTasks, t.concurrency))
	}
	for i := 0; i < len(steps); i++ {
		// What is sent together goes in one write.
		var text strings.Builder
		for ; i < len(steps) && steps[i].verb == "→"; i++ {
			for _, s := range t.each(steps[i]) {
				line, err := s.outgoing(t.Records, t.processID)
				if err != nil {
					return fmt.Errorf("%s: %w", s.where, err)
				}
				text.WriteString(line)
			}
		}
		if text.Len() > 0 {
			t.asked = time.Now()
			if err := t.peer.send(text.String(), t.Patience); err != nil {
				return err
			}
		}
		if i == len(steps) {
			break
		}
		for _, s := range t.each(steps[i]) {
			if err := t.step(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// mostTasks is up to how many tasks at once a worker is kept busy. Their ids end
// before those of other requests begin.
const mostTasks = 256

// each is a step as often as it is to be taken.
func (t *talk) each(s step) []step {
	if !s.each {
		return []step{s}
	}
	var all []step
	for i := range t.concurrency {
		all = append(all, s.forTask(i))
	}
	return all
}

func (t *talk) step(s step) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	switch s.verb {
	case "spawn":
		return t.spawn()
	case "start":
		return t.start(s.rest)
	case "←":
		return t.await(s)
	case "pause":
		return t.pause(s.within)
	case "busy":
		return t.busy()
	case "idle":
		return t.idle()
	case "waits":
		return t.waits(s.args[0])
	case "open":
		return t.open(s.args[0])
	case "unanswered":
		return t.count(s.args[0], 0, "it was answered")
	case "once":
		return t.count(s.args[0], 1, "it was answered again")
	case "refused":
		return t.refused(s.args[0])
	case "order":
		return t.order(s.args)
	case "signal":
		t.tell("→", []byte("("+s.args[0]+")"))
		return t.peer.signal(s.args[0])
	case "close":
		t.peer.closeStdin()
		return nil
	case "exit":
		return t.exit(s)
	default:
		return fmt.Errorf("%s: no such step", s.where)
	}
}

// spawn starts the worker, with an id that is new every time (P19).
func (t *talk) spawn() error {
	t.leave()
	t.mu.Lock()
	t.excerpt, t.stderr = nil, nil
	t.mu.Unlock()
	t.processID = "conformance-0-" + rand.Text()[:10]
	p, err := launch(t.Worker, t.processID, t.judge, t.tell)
	if err != nil {
		return fmt.Errorf("it cannot be started: %w", err)
	}
	t.peer, t.concurrency, t.heard = p, 1, -1
	return nil
}

// start starts the worker and initializes it.
func (t *talk) start(members string) error {
	if err := t.spawn(); err != nil {
		return err
	}
	line, err := initialize(t.processID, members)
	if err != nil {
		return err
	}
	if err := t.peer.send(line+"\n", t.StartTimeout); err != nil {
		return err
	}
	return t.await(step{verb: "←", args: []string{"1", "{}"}, rest: "1 {}", within: t.StartTimeout})
}

// greeted takes from the answer to initialize what the rest depends on.
func (t *talk) greeted(raw []byte) {
	var hello struct { // whatever is wrong with it, its own sections tell
		Version     json.RawMessage `json:"protocolVersion"`
		Worker      map[string]any  `json:"worker"`
		Concurrency float64         `json:"concurrency"`
	}
	_ = json.Unmarshal(raw, &hello)
	t.concurrency = int(min(max(1, hello.Concurrency), math.MaxInt32))
	tasks := fmt.Sprintf("%d tasks at once", t.concurrency)
	if t.concurrency == 1 {
		tasks = "one task at a time"
	}
	t.introduce(fmt.Sprintf("%s: %v %v, protocol %s, %s", strings.Join(t.Command, " "),
		hello.Worker["name"], hello.Worker["version"], clip(hello.Version), tasks))
}

// leave ends the worker.
func (t *talk) leave() {
	if t.peer != nil {
		t.peer.end()
		t.peer = nil
	}
}

const (
	// fromStderr marks what the worker logs, among → and ←.
	fromStderr = "stderr:"
	// excerptLines and stderrLines are how much is shown with a failure.
	excerptLines = 8
	stderrLines  = 4
)

// tell keeps the end of the dialogue.
func (t *talk) tell(direction string, line []byte) {
	text := direction + " " + clip(line)
	t.mu.Lock()
	name := t.name
	switch last := len(t.excerpt) - 1; {
	case direction == fromStderr:
		t.stderr = lastOf(append(t.stderr, text), stderrLines)
	case last >= 0 && isProgress(text) && isProgress(t.excerpt[last]):
		t.excerpt[last] = text // it says it all
	default:
		t.excerpt = lastOf(append(t.excerpt, text), excerptLines)
	}
	t.mu.Unlock()
	t.log(name, direction, line)
}

func isProgress(text string) bool {
	return strings.Contains(text, `"method":"`+protocol.MethodProgress+`"`)
}

func lastOf(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }
