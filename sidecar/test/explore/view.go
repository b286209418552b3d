package explore

import (
	"slices"
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// view is what a key space says about records and runs.
type view struct {
	places      [16]uint8 // by record: in how many places it is
	where       [16]place // by record: the last of them
	foreign     string    // a value that is no record
	queue       int
	inFlight    map[string][]flying // by run
	inboxes     map[string]int      // by run: its length
	members     []string
	alive       []string
	letters     []string // ids of dead letters
	gone        []string
	completions uint16 // bit set of records
	counted     uint16
	counter     int
	expected    bool
	attempts    [16]uint8
	ended       map[string]string // by run: how it ended
}

// flying is a delivery in an in-flight hash.
type flying struct {
	seq    int64
	record uint8
}

// place is where a record is.
type place struct {
	kind string // queue, inbox, inflight, delayed, unrouted, dead
	run  string
}

func look(w *world) *view {
	v := &view{inFlight: make(map[string][]flying, 4), inboxes: make(map[string]int, 2), ended: make(map[string]string, 2)}
	w.redis.Contents(func(c redismodel.Content) bool {
		if c.Expires == 0 || c.Expires >= w.clock {
			v.read(c)
		}
		return true
	})
	return v
}

func (v *view) put(text string, at place) {
	n, ok := recordOf(text)
	if !ok {
		v.foreign = text
		return
	}
	v.places[n]++
	v.where[n] = at
}

func (v *view) read(c redismodel.Content) {
	switch c.Key {
	case prefix + ":queue":
		v.queue = len(c.Items)
		for _, text := range c.Items {
			v.put(text, place{kind: "queue"})
		}
		return
	case prefix + ":barrier:" + group:
		v.counter, _ = strconv.Atoi(c.Text)
		return
	case prefix + ":barrier:" + group + ":expected":
		v.expected = true
		return
	case prefix + ":completions:" + group:
		for i := 0; i < len(c.Fields); i += 2 {
			v.completions |= 1 << (c.Fields[i][1] - '0')
		}
		return
	}
	name, ok := strings.CutPrefix(c.Key, own)
	if !ok {
		return
	}
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "runs":
		v.members = c.Items
	case "gone":
		v.gone = c.Items
	case "alive":
		v.alive = append(v.alive, rest)
	case "inbox":
		v.inboxes[rest] = len(c.Items)
		for _, text := range c.Items {
			v.put(text, place{"inbox", rest})
		}
	case "inflight":
		for i := 0; i < len(c.Fields); i += 2 {
			_, seq := splitID(c.Fields[i])
			n, _ := recordOf(c.Fields[i+1])
			v.inFlight[rest] = append(v.inFlight[rest], flying{seq, n})
			v.put(c.Fields[i+1], place{"inflight", rest})
		}
	case "delayed":
		if rest == "records" {
			for i := 0; i < len(c.Fields); i += 2 {
				v.put(c.Fields[i+1], place{kind: "delayed"})
			}
		}
	case "unrouted":
		for _, text := range c.Items {
			_, text, _ = strings.Cut(text, ":")
			v.put(text, place{kind: "unrouted"})
		}
	case "dead":
		if rest == "" {
			return
		}
		v.letters = append(v.letters, rest)
		for i := 0; i < len(c.Fields); i += 2 {
			if c.Fields[i] == "raw" {
				v.put(c.Fields[i+1], place{kind: "dead"})
			}
		}
	case "meta":
		for i := 0; i < len(c.Fields); i += 2 {
			if c.Fields[i] == "ended" {
				v.ended[rest] = c.Fields[i+1]
			}
		}
	case "counted":
		for _, item := range c.Items {
			v.counted |= 1 << (item[1] - '0')
		}
	case "attempts":
		if rest != "" {
			return
		}
		for i := 0; i < len(c.Fields); i += 2 {
			if n, ok := shaRecord[c.Fields[i]]; ok {
				count, _, _ := strings.Cut(c.Fields[i+1], ":")
				used, _ := strconv.Atoi(count)
				v.attempts[n] = uint8(min(used, 255))
			}
		}
	}
}

func (v *view) isMember(run string) bool { return slices.Contains(v.members, run) }
func (v *view) isAlive(run string) bool  { return slices.Contains(v.alive, run) }

// splitID splits a delivery id.
func splitID(text string) (run string, seq int64) {
	at := strings.LastIndexByte(text, '.')
	if at < 0 {
		return text, -1
	}
	seq, err := strconv.ParseInt(text[at+1:], 10, 64)
	if err != nil {
		return text, -1
	}
	return text[:at], seq
}

// shaRecord has the records by their SHA-1.
var shaRecord = func() map[string]uint8 {
	all := make(map[string]uint8)
	for n := range uint8(10) {
		all[redismodel.SHA1(record(n))] = n
	}
	return all
}()
