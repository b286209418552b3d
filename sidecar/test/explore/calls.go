package explore

import (
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// prefix and group are those of the world.
const (
	prefix = "p"
	group  = "g"
	own    = prefix + ":sidecar:"
)

// calls makes the arguments of the scripts as a Store does.
type calls struct {
	shas     map[string]string
	lease    int64 // ms
	attempts int
}

// eval returns a call of a script of a run. key is KEYS[1].
func (c *calls) eval(script, run, key string, args ...string) []string {
	return append([]string{"evalsha", c.shas[script], "1", key, prefix, run, number(c.lease), "left"}, args...)
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func alive(run string) string    { return own + "alive:" + run }
func inflight(run string) string { return own + "inflight:" + run }
func inbox(run string) string    { return own + "inbox:" + run }

func id(run string, seq int64) string { return run + "." + number(seq) }

const maxBytes = "4194304"

// format is the newest format of the keys that the sidecars know.
const format = "1"

func (c *calls) register(run string, former []string) []string {
	return c.eval("register", run, alive(run), append([]string{format}, former...)...)
}

func (c *calls) claim(run string, turn int64, batch int, floor int64) []string {
	return c.eval("claim", run, inflight(run), number(turn), strconv.Itoa(batch), maxBytes, number(floor), "524288", "65536")
}

// letter is the end of a report that makes a dead letter.
type letter struct {
	reason, message string
	losses          int
	time, at        string
}

func (c *calls) report(run string, seq int64, n uint8, completion string, dead *letter) []string {
	size := len(record(n))
	args := []string{"86400000", "1", strconv.Itoa(size), "0", id(run, seq), task(n), group, task(n) + "\x001", completion, "", "", redismodel.SHA1(record(n))}
	if dead == nil {
		return c.eval("report", run, inflight(run), append(args, "")...)
	}
	return c.eval("report", run, inflight(run), append(args, "dead", dead.reason, dead.message, "", strconv.Itoa(dead.losses), dead.time, dead.at, "")...)
}

// completion is Graflow's completion of a task.
func completion(n uint8, success bool, message string) string {
	text := "null"
	if !success {
		text = `"` + message + `"`
	}
	return `{"task_id":"` + task(n) + `","success":` + strconv.FormatBool(success) + `,"timestamp":0.000000,"error_message":` + text + `}`
}

func (c *calls) release(run string, seq int64, n uint8, loss, sharing string) []string {
	sha := ""
	if loss != "" {
		sha = redismodel.SHA1(record(n))
	}
	return c.eval("release", run, inflight(run), "1", id(run, seq), loss, sharing, strconv.Itoa(c.attempts), sha)
}

func (c *calls) delay(run string, seq int64, n uint8, after int64) []string {
	return c.eval("delay", run, inflight(run), "1", id(run, seq), number(after), "count", redismodel.SHA1(record(n)))
}

// searchRest is 0 where a Store has 60: each check of the members searches for forgotten
// runs, so that no path has to wait for it.
const searchRest = "0"

func (c *calls) tick(run, clock, since string) []string {
	return c.eval("tick", run, alive(run), "", "", "256", maxBytes, "3600000", "86400000", "100", "500", "1500", "1501", "1000", "8", clock, since, "1000", searchRest, format, "0", "0")
}

func (c *calls) renew(run string) []string { return c.eval("renew", run, alive(run), "", "") }

func (c *calls) retire(run, victim, mode string) []string {
	return c.eval("retire", run, inflight(victim), victim, mode)
}

func (c *calls) reap(run, victim string, attempts int, floor int64) []string {
	return c.eval("reap", run, inflight(victim), victim, "256", maxBytes, strconv.Itoa(attempts), number(floor), "65536", "524288")
}

func (c *calls) reconcile(run string, seen int64, known []string) []string {
	return c.eval("reconcile", run, inflight(run), append([]string{"256", maxBytes, number(seen)}, known...)...)
}

func (c *calls) requeue(dead string) []string {
	return c.eval("requeue", "", own+"dead:"+dead, dead, "", "86400000", format)
}

func (c *calls) drop(dead string) []string { return c.eval("drop", "", own+"dead:"+dead, dead, format) }

// recordOf returns the number of a record by its text.
func recordOf(text string) (uint8, bool) {
	rest, ok := strings.CutPrefix(text, `{"task_id": "t`)
	if !ok || len(rest) == 0 {
		return 0, false
	}
	n := rest[0] - '0'
	return n, text == record(n)
}
