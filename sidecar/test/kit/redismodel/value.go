package redismodel

import (
	"cmp"
	"slices"
	"strings"
)

// Type is the type of a value.
type Type uint8

// Types of values.
const (
	String Type = iota
	List
	Hash
	SetType
	SortedSet
)

// String returns the name that TYPE answers.
func (t Type) String() string { return [...]string{"string", "list", "hash", "set", "zset"}[t] }

// value is the value of a key. Values with an older epoch than the database are shared
// with snapshots and are copied before a change.
type value struct {
	kind    Type
	epoch   uint64
	expires int64 // ms; 0 is never
	text    string
	list    deque
	fields  []field // of a hash, and of a set without values, sorted by name
	scores  []field // of a sorted set, sorted by name; index of order's elements
	order   []scored
}

type field struct {
	name, text string
	score      float64
}

type scored struct {
	score float64
	name  string
}

func (v *value) clone(epoch uint64) *value {
	c := *v
	c.epoch = epoch
	c.list = deque{buf: slices.Clone(v.list.all())}
	c.fields, c.scores, c.order = slices.Clone(v.fields), slices.Clone(v.scores), slices.Clone(v.order)
	return &c
}

// empty reports whether the value has no elements; such a key does not exist.
func (v *value) empty() bool {
	switch v.kind {
	case List:
		return v.list.len() == 0
	case Hash, SetType:
		return len(v.fields) == 0
	case SortedSet:
		return len(v.order) == 0
	default:
		return false
	}
}

// deque is a list that grows at both ends.
type deque struct {
	buf  []string
	head int
}

func (d *deque) all() []string { return d.buf[d.head:] }
func (d *deque) len() int      { return len(d.buf) - d.head }

func (d *deque) push(left bool, text string) {
	if !left {
		d.buf = append(d.buf, text)
		return
	}
	if d.head == 0 {
		gap := d.len() + 2
		grown := make([]string, gap+d.len(), 2*gap+d.len())
		copy(grown[gap:], d.buf)
		d.buf, d.head = grown, gap
	}
	d.head--
	d.buf[d.head] = text
}

func (d *deque) pop(left bool) string {
	at := len(d.buf) - 1
	if left {
		at = d.head
	}
	text := d.buf[at]
	d.buf[at] = ""
	if left {
		d.head++
	} else {
		d.buf = d.buf[:at]
	}
	return text
}

func find(fields []field, name string) (int, bool) {
	return slices.BinarySearchFunc(fields, name, func(f field, name string) int { return strings.Compare(f.name, name) })
}

func (v *value) get(name string) (string, bool) {
	if at, ok := find(v.fields, name); ok {
		return v.fields[at].text, true
	}
	return "", false
}

// put sets a field of a hash, or adds a member to a set. It reports whether it is new.
func (v *value) put(name, text string) bool {
	at, ok := find(v.fields, name)
	if ok {
		v.fields[at].text = text
		return false
	}
	v.fields = slices.Insert(v.fields, at, field{name: name, text: text})
	return true
}

// remove removes a field of a hash or a member of a set.
func (v *value) remove(name string) bool {
	at, ok := find(v.fields, name)
	if ok {
		v.fields = slices.Delete(v.fields, at, at+1)
	}
	return ok
}

// has reports whether a hash, a set or a sorted set has an element.
func (v *value) has(name string) bool {
	elements := v.fields
	if v.kind == SortedSet {
		elements = v.scores
	}
	_, ok := find(elements, name)
	return ok
}

// drop removes an element of a hash, a set or a sorted set.
func (v *value) drop(name string) {
	if v.kind == SortedSet {
		v.unrank(name)
		return
	}
	v.remove(name)
}

func byScore(a, b scored) int {
	return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.name, b.name))
}

// rank sets the score of a member of a sorted set. It reports whether the member is new.
func (v *value) rank(name string, score float64) bool {
	known := v.unrank(name)
	at, _ := find(v.scores, name)
	v.scores = slices.Insert(v.scores, at, field{name: name, score: score})
	s := scored{score, name}
	at, _ = slices.BinarySearchFunc(v.order, s, byScore)
	v.order = slices.Insert(v.order, at, s)
	return !known
}

func (v *value) unrank(name string) bool {
	at, ok := find(v.scores, name)
	if !ok {
		return false
	}
	s := scored{v.scores[at].score, name}
	v.scores = slices.Delete(v.scores, at, at+1)
	at, _ = slices.BinarySearchFunc(v.order, s, byScore)
	v.order = slices.Delete(v.order, at, at+1)
	return true
}

func (v *value) score(name string) (float64, bool) {
	if at, ok := find(v.scores, name); ok {
		return v.scores[at].score, true
	}
	return 0, false
}
