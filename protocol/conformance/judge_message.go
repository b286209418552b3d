package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/protocol"
)

// response judges an answer and returns the id of the request that it is for,
// which is not the answer's own if that is spelt in another way.
func (j *judge) response(c *connection, sent map[string]*request, before []answer, m *protocol.Message) string {
	id := string(m.ID)
	r := sent[id]
	if r == nil {
		if other := sameNumber(sent, id); other != "" {
			j.failed("always/same-id", fmt.Sprintf("the answer to %s has the id %s", other, clip(id)))
			id, r = other, sent[other]
		}
	} else {
		j.require("always/same-id", true, "")
	}
	switch {
	case r == nil && id == "null" && m.Error != nil: // of something whose id it could not read (P10)
	case r == nil:
		j.failed("always/one-answer", "an answer to the id "+clip(id)+", which nothing had")
	case r.canceled && answered(before, id), r.method == protocol.MethodCancel:
		// A transcript asks for these (P30).
	case answered(before, id):
		j.failed("always/one-answer", "a second answer to the "+r.method+" with the id "+id)
	default:
		j.require("always/one-answer", true, "")
	}
	if r == nil {
		return id
	}
	switch r.method {
	case protocol.MethodInitialize:
		c.greeted = true
		var hello struct { // and no more: a wrong name is another check's business
			Capabilities map[string]json.RawMessage `json:"capabilities"`
		}
		if json.Unmarshal(m.Result, &hello) == nil {
			for name := range hello.Capabilities {
				c.capabilities[name] = true
			}
		}
		j.require("always/greeting-first", true, "")
	case protocol.MethodTaskRun:
		j.taskResult(c, r, m)
	}
	return id
}

func answered(answers []answer, id string) bool {
	for _, a := range answers {
		if a.id == id {
			return true
		}
	}
	return false
}

// sameNumber finds the request whose id is the same number, or the same digits
// as a string.
func sameNumber(sent map[string]*request, id string) string {
	n, err := strconv.ParseFloat(strings.Trim(id, `"`), 64)
	if err != nil {
		return ""
	}
	for other := range sent {
		if o, err := strconv.ParseFloat(other, 64); err == nil && math.Abs(o-n) <= math.Abs(o)*1e-6 {
			return other
		}
	}
	return ""
}

// taskResult judges the answer to a task/run.
func (j *judge) taskResult(c *connection, r *request, m *protocol.Message) {
	if e := m.Error; e != nil {
		ok := e.Code == protocol.CodeCancelled && (r.canceled || c.orphaned) ||
			e.Code == protocol.CodeNotStarted && (c.stopping || c.orphaned)
		j.require("always/task-errors", ok, fmt.Sprintf("error %d in answer to a task: %s", int(e.Code), clip(e.Message)))
		return
	}
	j.require("always/task-errors", true, "")
	_, err := protocol.DecodeRunResult(m.Result)
	j.require("always/results", err == nil, fmt.Sprintf("%v: %s", err, clip(m.Result)))
	var members map[string]json.RawMessage
	if json.Unmarshal(m.Result, &members) == nil && members["value"] != nil {
		beyond := unsafeInteger(members["value"])
		j.require("always/exact-values", beyond == "", "the integer "+clip(beyond)+" in a value")
	} else if members["valueText"] != nil {
		j.require("always/exact-values", true, "")
	}
}

// safe is the largest integer that every reader of JSON keeps (P25).
var safe = big.NewInt(1 << 53)

// unsafeInteger gives an integer in raw that is beyond it, if there is one.
func unsafeInteger(raw []byte) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err != nil {
			return ""
		}
		if number, ok := token.(json.Number); ok {
			if n, ok := new(big.Int).SetString(number.String(), 10); ok && n.CmpAbs(safe) > 0 {
				return number.String()
			}
		}
	}
}

// fromWorker judges a notification or request of the worker.
func (j *judge) fromWorker(c *connection, m *protocol.Message) {
	if !c.greeted && m.Method != protocol.MethodLog {
		j.failed("always/greeting-first", m.Method+" before the answer to initialize")
	}
	var p struct {
		Delivery *string         `json:"delivery"`
		Fraction json.RawMessage `json:"fraction"`
		Level    string          `json:"level"`
		Message  json.RawMessage `json:"message"`
	}
	err := json.Unmarshal(m.Params, &p)
	needsDelivery := true
	switch m.Method {
	case protocol.MethodDraining:
		c.stopping = true
		needsDelivery = false
	case protocol.MethodLog:
		needsDelivery = p.Delivery != nil
		level := p.Level == "debug" || p.Level == "info" || p.Level == "warn" || p.Level == "error"
		j.require("always/telling", err == nil && level && isText(p.Message), "log with "+clip(m.Params))
	case protocol.MethodProgress:
		j.require("always/telling", err == nil && isFraction(p.Fraction) && (p.Message == nil || isText(p.Message)), "$/progress with "+clip(m.Params))
	case protocol.MethodWaiting, protocol.MethodResumed:
		if p.Delivery != nil {
			waits := m.Method == protocol.MethodWaiting
			j.require("always/waiting", c.waiting[*p.Delivery] != waits, m.Method+" for a task that "+map[bool]string{true: "waits already", false: "does not wait"}[waits])
			c.waiting[*p.Delivery] = waits
		}
	default:
		channel := strings.HasPrefix(m.Method, "channel/") || m.Method == protocol.MethodTaskEnqueue
		if needsDelivery = channel; channel {
			j.require("always/capabilities", c.capabilities["channels"], m.Method+" of a worker that did not say it uses channels")
		}
	}
	if needsDelivery {
		j.require("always/deliveries", p.Delivery != nil && c.deliveries[*p.Delivery], m.Method+" with "+clip(m.Params))
	}
}

func isText(raw []byte) bool {
	var s string
	return len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
}

func isFraction(raw []byte) bool {
	var f float64
	return raw == nil || json.Unmarshal(raw, &f) == nil && f >= 0 && f <= 1
}

// cancelID is the id in the params of $/cancelRequest.
func cancelID(params []byte) string {
	var p protocol.CancelParams
	if json.Unmarshal(params, &p) != nil {
		return ""
	}
	return string(p.ID)
}
