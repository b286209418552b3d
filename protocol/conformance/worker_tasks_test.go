package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// slowTime is how long the slow task of the tests takes, at least.
const slowTime = 2500 * time.Millisecond

// records are what the workers of the tests can do. Their slow task takes scale
// times slowTime.
func records(scale int) Records {
	return Records{
		Quick:     json.RawMessage(`{"task_id":"quick"}`),
		Slow:      fmt.Appendf(nil, `{"task_id":"slow","seconds":%g}`, slowTime.Seconds()*float64(scale)),
		Failing:   json.RawMessage(`{"task_id":"failing"}`),
		Retryable: json.RawMessage(`{"task_id":"retryable"}`),
		Large:     json.RawMessage(`{"task_id":"large"}`),
		Exact:     json.RawMessage(`{"task_id":"exact"}`),
	}
}

// accept takes a task in.
func (f *faulty) accept(id string, params json.RawMessage, line []byte) {
	p, err := protocol.DecodeRunParams(params)
	if err != nil {
		f.answer(id, `"error":{"code":-32602,"message":"no task"}`)
		return
	}
	var record struct {
		TaskID  string  `json:"task_id"`
		Seconds float64 `json:"seconds"`
	}
	_ = json.Unmarshal(p.Record, &record)
	w := &work{id: id, delivery: p.Delivery, task: record.TaskID, cancel: make(chan struct{})}
	w.takes = time.Duration(record.Seconds * float64(time.Second))
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.is("tasks/text") && bytes.Contains(p.Record, []byte(`\ud800`)),
		f.is("tasks/numbers") && bytes.Contains(p.Record, []byte(`1e999`)),
		f.is("tasks/deep-record") && bytes.Count(line, []byte("[")) > 900,
		f.is("tasks/all-params") && p.Traceparent != "",
		f.is("tasks/burst") && id == "49":
		return
	case f.draining || f.stopping:
		takes := f.is("shutdown/takes-nothing") && f.stopping && !f.draining ||
			f.is("drain/takes-nothing") && id == "91" || f.is("interrupt/takes-nothing") && id == "96"
		if takes {
			f.answer(id, `"result":{"status":"succeeded"}`)
		} else {
			f.answer(id, `"error":{"code":-32001,"message":"not started"}`)
		}
		return
	case f.is("tasks/order") && id == "50":
		time.AfterFunc(100*time.Millisecond, func() { f.finish(w) })
		return
	case f.is("busy/one-too-many") && id == "74":
		f.answer(id, `"result":{"status":"succeeded"}`)
		return
	}
	f.queue = append(f.queue, w)
	f.next()
}

// next starts what may be started. f.mu is held.
func (f *faulty) next() {
	for len(f.running) < f.slots && len(f.queue) > 0 {
		w := f.queue[0]
		f.queue = f.queue[1:]
		f.running[w.id], f.worked = w, true
		go f.run(w)
	}
}

// run does a task.
func (f *faulty) run(w *work) {
	f.tell(w)
	if w.task != "slow" {
		f.finish(w)
		return
	}
	select {
	case <-time.After(w.takes):
		f.mu.Lock()
		lost := f.is("shutdown/finishes") && f.stopping && !f.draining || f.is("drain/finishes") && f.draining
		f.mu.Unlock()
		if lost {
			f.ended(w)
			return
		}
		f.finish(w)
	case <-w.cancel:
		switch {
		case f.is("busy/cancel-running") && w.id == "100":
		case f.is("always/task-errors") && w.id == "101":
			f.answer(w.id, `"error":{"code":-32603,"message":"something is wrong"}`)
		default:
			f.answer(w.id, `"error":{"code":-32800,"message":"cancelled"}`)
		}
		f.ended(w)
	}
}

func (f *faulty) ended(w *work) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.running, w.id)
	if f.is("busy/next") && slices.ContainsFunc(f.queue, func(w *work) bool { return w.id == "74" }) {
		return
	}
	f.next()
	f.maybeLeave()
}

// finish answers a task that has run.
func (f *faulty) finish(w *work) {
	result := `{"status":"succeeded"}`
	switch w.task {
	case "quick", "slow":
	case "failing":
		result = `{"status":"failed","error":{"message":"it failed"}}`
	case "retryable":
		result = `{"status":"failed","error":{"message":"not now","retryable":true}}`
	case "large":
		result = `{"status":"succeeded","value":"` + strings.Repeat("x", 5000) + `"}`
		if len(result) > f.limit {
			result = `{"status":"failed","error":{"message":"the value is too large"}}`
		}
	case "exact":
		result = `{"status":"succeeded","valueText":"NaN"}`
	default:
		result = `{"status":"failed","error":{"type":"unknown","message":"no such task","retryable":false}}`
	}
	switch {
	case f.is("tasks/answer") && w.id == "30":
		return
	case f.is("tasks/succeeds") && w.id == "31", f.is("tasks/retryable") && w.id == "33", f.is("limits/large-result") && w.id == "65":
		result = `{"status":"failed","error":{"message":"it failed","retryable":` + fmt.Sprint(w.id == "65") + `}}`
	case f.is("tasks/fails") && w.id == "32", f.is("tasks/exact-value") && w.id == "34":
		result = `{"status":"succeeded","value":0}`
	case f.is("always/results") && w.id == "30":
		result = `{"status":"failed"}`
	case f.is("always/exact-values") && w.id == "34":
		result = `{"status":"succeeded","valueText":"1"},"x":NaN` // not JSON, and its id can be told
	}
	rest := `"result":` + result
	f.answer(w.id, rest)
	if f.is("busy/once") && w.id == "74" {
		f.answer("100", rest)
	}
	f.ended(w)
}

// tell says what workers say about tasks.
func (f *faulty) tell(w *work) {
	delivery, level, before, after := w.delivery, "info", "$/waiting", "$/resumed"
	switch f.fault {
	case "always/deliveries":
		delivery = "somebody's"
	case "always/telling":
		level = "important"
	case "always/waiting":
		before = after
	}
	if w.task == "slow" {
		if !f.is("start/capabilities") {
			f.write(fmt.Sprintf(`{"jsonrpc":"2.0","id":"q","method":"channel/keys","params":{"delivery":"%s"}}`, w.delivery))
		}
		f.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"$/progress","params":{"delivery":"%s","fraction":0.5}}`, delivery))
		f.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"log","params":{"delivery":"%s","level":"%s","message":"half"}}`, w.delivery, level))
		f.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"%s","params":{"delivery":"%s"}}`, before, w.delivery))
		f.write(fmt.Sprintf(`{"jsonrpc":"2.0","method":"%s","params":{"delivery":"%s"}}`, after, w.delivery))
	}
}

// cancel gives a task up.
func (f *faulty) cancel(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := slices.IndexFunc(f.queue, func(w *work) bool { return w.id == id })
	switch w := f.running[id]; {
	case f.is("envelope/cancel-unknown") && id == "998", f.is("tasks/cancel-answered") && id == "54":
		f.answer(id, `"error":{"code":-32800,"message":"cancelled"}`)
	case at >= 0 && f.is("busy/cancel-unstarted"):
	case at >= 0:
		f.queue = slices.Delete(f.queue, at, at+1)
		f.answer(id, `"error":{"code":-32800,"message":"cancelled"}`)
	case w != nil:
		select {
		case <-w.cancel:
		default:
			close(w.cancel)
		}
	}
}

// answer writes a response.
func (f *faulty) answer(id, rest string) {
	padding := strings.Repeat("x", 300)
	switch {
	case f.is("always/same-id") && id == "12":
		id = "12.0"
	case f.is("always/id-first") && id == "12":
		f.write(`{"jsonrpc":"2.0","about":"` + padding + `","id":` + id + `,` + rest + `}`)
		return
	case f.is("always/valid") && id == "12":
		f.write(`{"id":` + id + `,` + rest + `}`)
		return
	}
	f.write(`{"jsonrpc":"2.0","id":` + id + `,` + rest + `}`)
}

// write writes a line.
func (f *faulty) write(line string) {
	if f.is("always/framing") {
		line = strings.Replace(line, ",", ",\r", 1)
	}
	switch f.fault {
	case "prints":
		line = "a print\n{\"no\":\"message\"}\n" + line
	case "prints half way":
		line = "half way " + line
	}
	_, _ = os.Stdout.WriteString(line + "\n")
}
