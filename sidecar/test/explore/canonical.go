package explore

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// key is the hash of a canonical state. Two states have the same one by chance with a
// probability below 1e-24 for ten million states.
type key [16]byte

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// canon writes worlds in a canonical form, in which states are equal whose futures are
// equal up to names:
//
//   - runs are named by their sidecar and by their place among its runs; sidecars may be
//     exchanged
//   - sequence numbers are replaced by their rank among those of the run in use, and turns by
//     their distance from the next one
//   - times are relative to the clock, and cut where no script tells them apart
//   - what no script reads again is left out: the time of a dead letter or of a gone run,
//     the numbers of the last claim when it cannot be repeated
type canon struct {
	b     []byte
	w     *world
	names map[string]string
	seqs  map[string][]int64
	turns map[string]int64
	again map[string]int64 // by run: the turn that may still be repeated
}

// key returns the key of a world.
func (c *canon) key(w *world) key {
	c.w = w
	c.collect()
	best := c.write([]int{0, 1}[:len(w.sidecars)])
	if len(w.sidecars) == 2 {
		first := slices.Clone(best)
		if other := c.write([]int{1, 0}); bytes.Compare(other, first) < 0 {
			best = other
		} else {
			best = first
		}
	}
	var k key
	binary.LittleEndian.PutUint64(k[:8], maphash.Bytes(seeds[0], best))
	binary.LittleEndian.PutUint64(k[8:], maphash.Bytes(seeds[1], best))
	return k
}

// collect gathers the sequence numbers and turns in use.
func (c *canon) collect() {
	c.seqs, c.turns, c.again = make(map[string][]int64, 4), make(map[string]int64, 4), make(map[string]int64, 4)
	add := func(run string, seq int64) {
		if seq >= 0 && !slices.Contains(c.seqs[run], seq) {
			c.seqs[run] = append(c.seqs[run], seq)
		}
	}
	for i := range c.w.sidecars {
		s := &c.w.sidecars[i]
		if s.run == "" {
			continue
		}
		for _, d := range slices.Concat(s.has, s.reply) {
			add(s.run, d.seq)
		}
		c.turns[s.run] = s.turn
		if s.claiming {
			c.again[s.run] = s.turn
		}
	}
	for _, m := range c.w.late {
		for _, a := range m.args[3:] {
			if run, seq := splitID(a); seq >= 0 && run == m.run {
				add(run, seq)
			}
		}
		if turn, ok := claimTurn(m); ok {
			c.again[m.run] = turn
			if _, live := c.turns[m.run]; !live {
				c.turns[m.run] = turn
			}
		}
	}
	c.w.redis.Contents(func(e redismodel.Content) bool {
		name, _ := strings.CutPrefix(e.Key, own)
		kind, rest, _ := strings.Cut(name, ":")
		switch kind {
		case "inflight", "delayed":
			for _, text := range slices.Concat(e.Items, e.Fields) {
				if run, seq := splitID(text); seq >= 0 {
					add(run, seq)
				}
			}
		case "dead":
			if rest != "" {
				add(splitID(rest))
			}
		}
		return true
	})
	for _, list := range c.seqs {
		slices.Sort(list)
	}
}

// claimTurn returns the turn of a late claim.
func claimTurn(m message) (int64, bool) {
	if !strings.HasPrefix(m.text, "claim ") {
		return 0, false
	}
	turn, err := strconv.ParseInt(m.args[8], 10, 64)
	return turn, err == nil
}

// write writes the world with its sidecars in an order.
func (c *canon) write(order []int) []byte {
	c.b, c.names = c.b[:0], make(map[string]string, 8)
	for place, i := range order {
		former := c.w.sidecars[i].former
		for n, run := range former {
			c.names[run] = string('A'+rune(place)) + strconv.Itoa(len(former)-n)
		}
	}
	for n, run := range c.w.orphans {
		c.names[run] = "O" + strconv.Itoa(n)
	}
	c.number(int64(c.w.ended), int64(c.w.dropped))
	for _, n := range c.w.used {
		c.b = append(c.b, n)
	}
	for _, i := range order {
		c.sidecar(&c.w.sidecars[i])
	}
	for _, m := range c.w.late {
		c.message(m)
	}
	c.absences()
	steady := c.w.clock
	c.w.redis.Contents(func(e redismodel.Content) bool {
		if e.Key != own+"clock" {
			return true
		}
		at, ahead := int64(0), int64(0)
		for i := 0; i < len(e.Fields); i += 2 {
			n, _ := strconv.ParseInt(e.Fields[i+1], 10, 64)
			switch e.Fields[i] {
			case "at":
				at = n
			case "ahead":
				ahead = n
			}
		}
		steady = c.w.clock + ahead + max(at-c.w.clock, 0)
		return false
	})
	lines := make([]string, 0, 24)
	c.w.redis.Contents(func(e redismodel.Content) bool {
		from := len(c.b)
		c.content(e, steady)
		lines = append(lines, string(c.b[from:]))
		c.b = c.b[:from]
		return true
	})
	slices.Sort(lines) // the names of keys have names of runs
	for _, line := range lines {
		c.text(line)
	}
	return c.b
}

func (c *canon) text(t string) {
	c.b = binary.AppendUvarint(c.b, uint64(len(t)))
	c.b = append(c.b, t...)
}

func (c *canon) number(list ...int64) {
	for _, n := range list {
		c.b = binary.AppendVarint(c.b, n)
	}
}

func (c *canon) run(run string) string {
	if name, ok := c.names[run]; ok {
		return name
	}
	return run
}

// seq returns the rank of a sequence number.
func (c *canon) seq(run string, seq int64) int64 {
	at, _ := slices.BinarySearch(c.seqs[run], seq)
	if seq > 1<<40 {
		return int64(1000 + at)
	}
	return int64(at)
}

// delivery returns a delivery id in canonical form; other texts stay.
func (c *canon) delivery(text string) string {
	run, seq := splitID(text)
	if _, known := c.seqs[run]; !known || seq < 0 {
		return c.run(text)
	}
	return c.run(run) + "." + strconv.FormatInt(c.seq(run, seq), 10)
}

func (c *canon) sidecar(s *sidecar) {
	c.text(c.run(s.run))
	flags := int64(0)
	for i, is := range []bool{s.claiming, s.leaving, s.run != "", s.waiting, s.retired} {
		if is {
			flags |= 1 << i
		}
	}
	c.number(flags, int64(len(s.former)), int64(len(s.has)))
	c.text(c.run(s.reaping))
	for _, d := range slices.Concat(s.has, s.reply) {
		c.number(c.seq(s.run, d.seq), int64(d.record), int64(d.losses), int64(d.doing))
	}
	if s.ticked {
		c.number(c.w.clock - c.w.steady - s.tickOffset)
	}
}

func (c *canon) message(m message) {
	c.text(c.run(m.run))
	if turn, ok := claimTurn(m); ok {
		c.text("claim")
		c.number(clamp(c.turns[m.run]-turn, 0, 2)) // a claim before the last one is overtaken, however old
		return
	}
	words := strings.Fields(m.text)
	for i, word := range words {
		words[i] = c.delivery(word)
	}
	c.text(strings.Join(words, " "))
}

// absences writes for how long members have been without a lease.
func (c *canon) absences() {
	a := &c.w.absences
	if a.looked == 0 {
		return
	}
	const never = deadAfter + lookGrace
	c.number(clamp(c.w.steady-a.looked, 0, longestLook+1), clamp(c.w.steady-a.again, 0, never))
	list := make([]string, 0, len(a.since))
	for _, s := range a.since {
		list = append(list, c.run(s.run)+" "+strconv.FormatInt(clamp(c.w.steady-s.at, 0, deadAfter), 10)+strconv.FormatBool(s.at < a.again))
	}
	slices.Sort(list)
	c.text(strings.Join(list, ","))
}

// clamp cuts a time.
func clamp(n, low, high int64) int64 { return max(low, min(n, high)) }

// content writes a key. steady is the time that the scripts use.
func (c *canon) content(e redismodel.Content, steady int64) {
	name, ok := strings.CutPrefix(e.Key, own)
	if !ok {
		c.raw(e)
		return
	}
	kind, rest, _ := strings.Cut(name, ":")
	value := func(i int) int64 {
		n, _ := strconv.ParseInt(e.Fields[i+1], 10, 64)
		return n
	}
	switch {
	case kind == "runs" || kind == "gone":
		c.text(kind)
		names := make([]string, len(e.Items))
		for i, run := range e.Items {
			names[i] = c.run(run)
		}
		slices.Sort(names)
		c.text(strings.Join(names, " "))
	case kind == "alive":
		c.text(kind + c.run(rest))
	case kind == "inbox":
		c.text(kind + c.run(rest))
		for _, item := range e.Items {
			c.text(item)
		}
	case kind == "inflight" || name == "delayed:records":
		c.text(name[:min(len(kind)+1, len(name))] + c.run(rest))
		list := make([]string, 0, len(e.Fields)/2)
		for i := 0; i < len(e.Fields); i += 2 {
			list = append(list, c.delivery(e.Fields[i])+e.Fields[i+1])
		}
		slices.Sort(list)
		for _, text := range list {
			c.text(text)
		}
	case name == "delayed" || name == "isolated":
		c.text(name)
		for i, item := range e.Items {
			c.text(c.delivery(item))
			c.number(max(int64(e.Scores[i])-steady, 0))
		}
	case kind == "dead":
		c.text("dead" + c.delivery(rest))
		for i := 0; i < len(e.Fields); i += 2 {
			if f := e.Fields[i]; f == "raw" || f == "attempts" {
				c.text(e.Fields[i+1])
			}
		}
		list := make([]string, 0, 2)
		for _, item := range e.Items {
			list = append(list, c.delivery(item))
		}
		slices.Sort(list)
		c.text(strings.Join(list, " "))
	case kind == "meta":
		c.meta(rest, e, value)
	case kind == "watch":
		c.text("watch")
		for i := 0; i < len(e.Fields); i += 2 {
			switch f := e.Fields[i]; f {
			case "at":
				c.number(clamp(c.w.clock-value(i), -1, 1501))
			case "page", "cursor", "rest":
			default:
				c.text(c.run(f))
				c.number(clamp(c.w.clock-value(i), -1001, 1501))
			}
		}
	case kind == "clock":
		c.text("clock")
		for i := 0; i < len(e.Fields); i += 2 {
			if e.Fields[i] == "at" {
				c.number(clamp(c.w.clock-value(i), -100_000, 2001))
			}
		}
	case name == "attempts:at":
		c.text(name)
		list := slices.Clone(e.Items)
		slices.Sort(list)
		c.text(strings.Join(list, " "))
	case kind == "counted":
		day, _, _ := strings.Cut(rest, ":")
		n, _ := strconv.ParseInt(day, 10, 64)
		c.text("counted")
		c.number(n - steady/86_400_000)
		c.text(strings.Join(e.Items, " "))
	default:
		c.raw(e)
	}
}

// meta writes the metadata of a run.
func (c *canon) meta(run string, e redismodel.Content, value func(int) int64) {
	c.text("meta" + c.run(run))
	fields := make(map[string]int64, 8)
	for i := 0; i < len(e.Fields); i += 2 {
		fields[e.Fields[i]] = value(i)
		switch f := e.Fields[i]; f {
		case "held", "ended", "kinds", "worker", "format":
			c.text(f + e.Fields[i+1])
		}
	}
	next, live := c.turns[run]
	if turn, ok := fields["turn"]; ok && live {
		c.number(next - turn)
	}
	if turn, ok := fields["claim"]; ok {
		if again, may := c.again[run]; may && again == turn {
			c.text("again")
			c.number(c.seq(run, fields["first"]), c.seq(run, fields["last"]+1))
		}
	}
}

func (c *canon) raw(e redismodel.Content) {
	c.text(e.Key)
	c.text(e.Text)
	for _, item := range slices.Concat(e.Items, e.Fields) {
		c.text(item)
	}
}
