//go:build simulation

package simulation

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// behaviour is what a worker does with a record.
type behaviour string

// Behaviours of workers that keep to the protocol.
const (
	works         behaviour = ""
	fails         behaviour = "fail"
	retriesOnce   behaviour = "retry"
	retriesAlways behaviour = "retry always"
	asksChannel   behaviour = "channel"
	enqueues      behaviour = "enqueue"
	nests         behaviour = "nest"
	drains        behaviour = "drain"
	tooLarge      behaviour = "too large" // a result that Redis rejects
	valueTooLarge behaviour = "value too large"
)

// Behaviours that break the protocol or the worker.
const (
	dies          behaviour = "die"         // with each delivery
	diesOnce      behaviour = "die once"    // with the first delivery
	diesLate      behaviour = "die late"    // after the work, before the answer, once
	segfaults     behaviour = "segfault"    // with each delivery
	quits         behaviour = "quit"        // exits with status 0 behind its answer
	hangs         behaviour = "hang"        // ignores cancel and SIGTERM
	hangsSoftly   behaviour = "hang softly" // answers a cancel
	wrongID       behaviour = "wrong id"
	answersTwice  behaviour = "twice"
	noAnswer      behaviour = "no answer" // does the work
	garbage       behaviour = "garbage"   // in place of the value
	textBefore    behaviour = "text before"
	pretty        behaviour = "pretty"
	framed        behaviour = "framed"
	textID        behaviour = "text id"
	noVersion     behaviour = "no version"
	halfLine      behaviour = "half line"
	noLineEnd     behaviour = "no line end"
	longLine      behaviour = "long line"
	floodsStderr  behaviour = "flood stderr"
	floodsStdout  behaviour = "flood stdout"
	closesStdout  behaviour = "close stdout"
	stopsReading  behaviour = "stop reading"
	slowCancel    behaviour = "slow cancel" // answers with success after a cancel
	failsUnread   behaviour = "fail unread" // quits at once, with what was sent behind it unread
	errorResponse behaviour = "error response"
)

// bad are the behaviours that the driver mixes in.
var bad = []behaviour{
	fails, retriesOnce, retriesAlways, drains, tooLarge, valueTooLarge,
	dies, diesOnce, diesLate, segfaults, quits, hangs, hangsSoftly, wrongID, answersTwice, noAnswer, garbage, textBefore, pretty, framed,
	textID, noVersion, halfLine, noLineEnd, longLine, floodsStderr, floodsStdout, closesStdout, stopsReading, slowCancel, failsUnread, errorResponse,
}

// succeeds tells whether a task with this behaviour ends with success if nothing touches it.
func (b behaviour) succeeds() bool {
	switch b {
	case works, asksChannel, enqueues, nests, drains, retriesOnce, diesOnce, diesLate, quits, answersTwice, floodsStderr, floodsStdout, textID:
		return true
	}
	return false
}

// needsDeadline tells whether nothing but its deadline ends such a task. An answer without a
// version is a print (P59) behind output that has no line end.
func (b behaviour) needsDeadline() bool {
	switch b {
	case hangs, hangsSoftly, noAnswer, wrongID, noVersion, stopsReading, slowCancel, nests:
		return true
	}
	return false
}

// perform does what the record says. ends tells that the process exits.
func (t *running) perform() (how local.Ending, ends bool) {
	id, first := t.id, t.member.world.first(t.record.TaskID, t.record.Do)
	answer := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":%q}}`, id, t.record.TaskID)
	switch t.record.Do {
	case dies:
		return local.Ending{Code: 1}, true
	case segfaults:
		return local.Ending{Code: -1, Signal: syscall.SIGSEGV}, true
	case diesOnce:
		if first {
			return local.Ending{Code: 3}, true
		}
	case failsUnread:
		if first {
			return local.Ending{}, true
		}
	case hangs:
		t.process.mu.Lock()
		t.ignores = true
		t.process.mu.Unlock()
		<-t.ctx.Done()
		return
	case hangsSoftly:
		select {
		case <-t.ctx.Done():
		case <-t.cancelled:
			t.giveUp()
		}
		return
	case asksChannel, valueTooLarge:
		if !t.askChannel() {
			return
		}
	case enqueues:
		if !t.enqueue() {
			return
		}
	case nests:
		if !t.nest() {
			return
		}
	case closesStdout:
		_ = t.out.Close()
		return
	case floodsStdout:
		t.flood(lineWriter{t.speech})
	case floodsStderr:
		t.flood(t.errs)
	}
	if !t.work() {
		if t.record.Do == slowCancel && t.pass(100*time.Millisecond) {
			t.ended()
			_ = t.raw(answer + "\n")
		}
		return
	}
	switch t.record.Do {
	case fails:
		t.fail("failed on purpose", false)
	case errorResponse:
		t.answered()
		_ = t.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"confused"}}`, id)
	case retriesAlways:
		t.fail("not now", true)
	case retriesOnce:
		if first {
			t.fail("not now", true)
		} else {
			t.succeed()
		}
	case diesLate:
		if first {
			t.ended()
			return local.Ending{Code: 1}, true
		}
		t.succeed()
	case quits:
		t.succeed()
		return local.Ending{}, true
	case drains:
		_ = t.raw(`{"jsonrpc":"2.0","method":"$/draining","params":{}}` + "\n")
		t.succeed()
	case answersTwice:
		t.succeed()
		_ = t.raw(answer + "\n")
	default:
		form, breaks := t.brokenForm(id, answer)
		if !breaks {
			t.succeed()
			return
		}
		t.ended()
		_ = t.raw(form)
	}
	return
}

// brokenForm returns an answer that is no valid message, or "" for a missing answer.
func (t *running) brokenForm(id, answer string) (text string, breaks bool) {
	switch t.record.Do {
	case wrongID:
		return strings.Replace(answer, `"id":`+id, `"id":424242`, 1) + "\n", true
	case noAnswer:
		return "", true
	case garbage:
		return `{"jsonrpc":"2.0","id":` + id + `,"result":{"status":"succeeded","value":nope}}` + "\n", true
	case textBefore:
		return "done: " + answer + "\n", true
	case pretty:
		return strings.ReplaceAll(answer, ",", ",\n  ") + "\n", true
	case framed:
		return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(answer), answer), true
	case textID:
		return strings.Replace(answer, `"id":`+id, `"id":"`+id+`"`, 1) + "\n", true
	case noVersion:
		return strings.Replace(answer, `"jsonrpc":"2.0",`, "", 1) + "\n", true
	case halfLine:
		return answer[:len(answer)/2], true
	case noLineEnd:
		return answer, true
	case longLine:
		return strings.Replace(answer, t.record.TaskID, strings.Repeat("y", 2*t.max), 1) + "\n", true
	}
	return "", false
}

// lineWriter writes to stdout, one text at a time.
type lineWriter struct{ *speech }

func (w lineWriter) Write(b []byte) (int, error) {
	return len(b), w.raw(string(b))
}

// askChannel uses the channel of the workflow. It reports whether the task goes on.
func (t *running) askChannel() bool {
	key := t.record.TaskID + ".v"
	m := t.ask(protocol.MethodChannelSet, fmt.Sprintf(`,"key":%q,"value":"%s"`, key, strings.Repeat("v", max(t.record.Size, 1))))
	switch {
	case m == nil:
		t.giveUp()
		return false
	case m.Error != nil:
		t.fail(m.Error.Message, false)
		return false
	}
	m = t.ask(protocol.MethodChannelGet, fmt.Sprintf(`,"key":%q`, key))
	switch {
	case m == nil:
		t.giveUp()
		return false
	case m.Error != nil:
		t.fail(m.Error.Message, false)
		return false
	case !strings.Contains(string(m.Result), `"found":true`) && !t.member.world.mayForget():
		t.member.world.violation("%s: the value of its channel is not there: %.100s", t.record.TaskID, m.Result)
	}
	return true
}

// enqueue adds records to the queue. It reports whether the task goes on.
func (t *running) enqueue() bool {
	for _, r := range t.member.world.children(t.record) {
		m := t.ask(protocol.MethodTaskEnqueue, `,"record":`+r.text)
		switch {
		case m == nil:
			t.giveUp()
			return false
		case m.Error != nil:
			t.fail(m.Error.Message, false)
			return false
		}
		t.member.world.acknowledge(r.id)
	}
	return true
}

// nest pushes a group, as Graflow's tasks do by their own connection, and waits for it. What it
// has begun to push is pushed also if its process ends: where Redis is full that may take long,
// and no process waits for it after SIGKILL.
func (t *running) nest() bool {
	w := t.member.world
	pushed := make(chan string, 1)
	go func() { pushed <- w.nested(t.record) }()
	var group string
	select {
	case group = <-pushed:
	case <-t.ctx.Done():
		return false
	}
	_ = t.say(`{"jsonrpc":"2.0","method":"$/waiting","params":{"delivery":%q}}`, t.delivery)
	select {
	case <-w.published(group):
	case <-t.ctx.Done():
		return false
	case <-t.cancelled:
		t.giveUp()
		return false
	}
	_ = t.say(`{"jsonrpc":"2.0","method":"$/resumed","params":{"delivery":%q}}`, t.delivery)
	return true
}
