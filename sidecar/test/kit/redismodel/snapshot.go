package redismodel

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Snapshot is the key space of a database at one moment. It does not change and may be
// used by several goroutines. It has neither the scripts nor the settings.
type Snapshot struct {
	keys   []entry // sorted by name
	expire int64
}

type entry struct {
	name string
	v    *value
}

// Snapshot returns the present key space. It costs a copy of the list of keys.
func (db *DB) Snapshot() *Snapshot {
	s := &Snapshot{keys: make([]entry, 0, len(db.keys)), expire: db.expire}
	for name, v := range db.keys {
		s.keys = append(s.keys, entry{name, v})
	}
	slices.SortFunc(s.keys, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	db.epoch = epochs.Add(1)
	return s
}

// Restore replaces the key space by that of a snapshot.
func (db *DB) Restore(s *Snapshot) {
	clear(db.keys)
	for _, e := range s.keys {
		db.keys[e.name] = e.v
	}
	db.expire, db.epoch = s.expire, epochs.Add(1)
}

// Clone returns a database with the same key space, scripts and settings and another
// clock.
func (db *DB) Clone(clock func() time.Time) *DB {
	c := New(clock)
	c.Restore(db.Snapshot())
	maps.Copy(c.scripts, db.scripts)
	maps.Copy(c.config, db.config)
	return c
}

// Content is the value of a key, to be read only.
type Content struct {
	Key     string
	Type    Type
	Expires int64     // ms since 1970; 0 is never
	Text    string    // of a string
	Items   []string  // of a list in its order; members of a set, sorted; of a sorted set by score
	Fields  []string  // of a hash: names and values in turn, sorted by name
	Scores  []float64 // of the Items of a sorted set
}

// Contents calls f with each key in the order of their names, until f returns false.
func (s *Snapshot) Contents(f func(Content) bool) {
	for _, e := range s.keys {
		if !f(e.v.content(e.name)) {
			return
		}
	}
}

func (v *value) content(name string) Content {
	c := Content{Key: name, Type: v.kind, Expires: v.expires, Text: v.text}
	switch v.kind {
	case List:
		c.Items = v.list.all()
	case Hash:
		c.Fields = make([]string, 0, 2*len(v.fields))
		for _, f := range v.fields {
			c.Fields = append(c.Fields, f.name, f.text)
		}
	case SetType:
		for _, f := range v.fields {
			c.Items = append(c.Items, f.name)
		}
	case SortedSet:
		for _, s := range v.order {
			c.Items, c.Scores = append(c.Items, s.name), append(c.Scores, s.score)
		}
	case String:
	}
	return c
}

// Canonical appends the key space in a form that is equal for equal key spaces.
func (s *Snapshot) Canonical(b []byte) []byte {
	text := func(t string) {
		b = binary.AppendUvarint(b, uint64(len(t)))
		b = append(b, t...)
	}
	for _, e := range s.keys {
		text(e.name)
		b = append(b, byte(e.v.kind))
		b = binary.AppendVarint(b, e.v.expires)
		text(e.v.text)
		b = binary.AppendUvarint(b, uint64(e.v.list.len()+len(e.v.fields)+len(e.v.order)))
		for _, t := range e.v.list.all() {
			text(t)
		}
		for _, f := range e.v.fields {
			text(f.name)
			text(f.text)
		}
		for _, z := range e.v.order {
			text(z.name)
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(z.score))
		}
	}
	return b
}

// Without returns the snapshot without a key and without the keys that have expired at a
// time in ms.
func (s *Snapshot) Without(key string, now int64) *Snapshot {
	left := &Snapshot{expire: s.expire}
	for _, e := range s.keys {
		if e.name != key && (e.v.expires == 0 || e.v.expires >= now) {
			left.keys = append(left.keys, e)
		}
	}
	return left
}
