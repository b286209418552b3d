package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
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

	mu      sync.Mutex
	name    string   // of the check that is being made
	excerpt []string // the end of the dialogue
}

// undone is the error of a check that could not be made after all.
type undone string

func (u undone) Error() string { return string(u) }

// check plays one section.
func (t *talk) check(c *check) Result {
	t.mu.Lock()
	t.name = c.name
	t.mu.Unlock()
	r := Result{Check: c.name, Rules: c.rules, Asks: c.asks, Status: Passed}
	err := t.steps(c)
	var why undone
	switch {
	case err == nil:
	case errors.As(err, &why):
		r.Status, r.Seen = NotChecked, string(why)
	default:
		r.Status, r.Seen = Failed, err.Error()
		t.mu.Lock()
		for _, line := range t.excerpt {
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
	t.processID = "conformance-0-" + rand.Text()[:10]
	p, err := launch(t.Worker, t.processID, t.judge, t.tell)
	if err != nil {
		return fmt.Errorf("it cannot be started: %w", err)
	}
	t.peer, t.concurrency = p, 1
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
	t.concurrency = max(1, int(hello.Concurrency))
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

// excerptLines is how much of a dialogue is shown with a failure.
const excerptLines = 8

func isProgress(line []byte) bool {
	return bytes.Contains(line, []byte(`"method":"`+protocol.MethodProgress+`"`))
}

// tell keeps the end of the dialogue.
func (t *talk) tell(direction string, line []byte) {
	t.mu.Lock()
	name := t.name
	again := len(t.excerpt) > 0 && isProgress([]byte(t.excerpt[len(t.excerpt)-1])) && isProgress(line)
	if again { // the last one says it all
		t.excerpt = t.excerpt[:len(t.excerpt)-1]
	}
	t.excerpt = append(t.excerpt, direction+" "+clip(line))
	if len(t.excerpt) > excerptLines {
		t.excerpt = t.excerpt[1:]
	}
	t.mu.Unlock()
	t.log(name, direction, line)
}
