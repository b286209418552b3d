package redismodel

import (
	"math"
	"slices"
	"strings"
)

var listCommands = []command{
	{"LPUSH", -3, writes | grows, push},
	{"RPUSH", -3, writes | grows, push},
	{"LPOP", -2, writes, pop},
	{"RPOP", -2, writes, pop},
	{"LLEN", 2, 0, llen},
	{"LRANGE", 4, 0, lrange},
	{"LINDEX", 3, 0, lindex},
	{"LSET", 4, writes | grows, lset},
	{"LREM", 4, writes, lrem},
	{"LMOVE", 5, writes | grows, lmove},
	{"BLMOVE", 6, writes | grows | noScript, blmove},
}

func push(db *DB, args []string) Reply {
	if _, wrong := db.read(args[1], List); wrong {
		return failed(errWrongType)
	}
	v, left := db.edit(args[1], List), isLeft(args[0])
	for _, text := range args[2:] {
		v.list.push(left, text)
	}
	return integer(v.list.len())
}

// isLeft reports whether a command or a side begins with L.
func isLeft(word string) bool { return word[0] == 'L' || word[0] == 'l' }

func pop(db *DB, args []string) Reply {
	if len(args) > 3 {
		return arityError(strings.ToLower(args[0]))
	}
	most := int64(1)
	if len(args) == 3 {
		var ok bool
		if most, ok = parseInt(args[2]); !ok || most < 0 {
			return failed("ERR value is out of range, must be positive")
		}
	}
	v, wrong := db.read(args[1], List)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil && len(args) == 3:
		return Reply{Kind: NilArray}
	case v == nil:
		return nilReply
	}
	v = db.own(args[1])
	defer db.settle(args[1])
	if len(args) == 2 {
		return bulk(v.list.pop(isLeft(args[0])))
	}
	list := make([]Reply, min(most, int64(v.list.len())))
	for i := range list {
		list[i] = bulk(v.list.pop(isLeft(args[0])))
	}
	return array(list...)
}

func llen(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], List)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return integer(0)
	}
	return integer(v.list.len())
}

// span returns the part of n elements between two indices, as LRANGE and ZRANGE have it.
func span(from, to string, n int) (first, last int, ok bool) {
	a, ok1 := parseInt(from)
	b, ok2 := parseInt(to)
	if !ok1 || !ok2 {
		return 0, 0, false
	}
	size := int64(n)
	if a < 0 {
		a = max(a+size, 0)
	}
	if b < 0 {
		b += size
	}
	b = min(b, size-1)
	if a > b || a >= size {
		return 0, 0, true
	}
	return int(a), int(b) + 1, true
}

func lrange(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], List)
	n := 0
	if v != nil {
		n = v.list.len()
	}
	first, last, ok := span(args[2], args[3], n)
	switch {
	case !ok:
		return failed(errInteger)
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return array()
	}
	return bulks(v.list.all()[first:last])
}

func lindex(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], List)
	if v == nil || wrong {
		if wrong {
			return failed(errWrongType)
		}
		return nilReply
	}
	at, ok := position(args[2], v.list.len())
	if !ok {
		return failed(errInteger)
	}
	if at < 0 {
		return nilReply
	}
	return bulk(v.list.all()[at])
}

// position returns the index of an element; -1 for a missing one.
func position(text string, n int) (int, bool) {
	at, ok := parseInt(text)
	if at < 0 {
		at += int64(n)
	}
	if at < 0 || at >= int64(n) {
		return -1, ok
	}
	return int(at), ok
}

func lset(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], List)
	switch {
	case v == nil:
		return failed("ERR no such key")
	case wrong:
		return failed(errWrongType)
	}
	at, ok := position(args[2], v.list.len())
	if !ok {
		return failed(errInteger)
	}
	if at < 0 {
		return failed("ERR index out of range")
	}
	db.own(args[1]).list.all()[at] = args[3]
	return okReply
}

func lrem(db *DB, args []string) Reply {
	n, ok := parseInt(args[2])
	if !ok {
		return failed(errInteger)
	}
	v, wrong := db.read(args[1], List)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return integer(0)
	}
	items := slices.Clone(v.list.all())
	fromTail := n < 0
	if fromTail {
		slices.Reverse(items)
		n = -n
	}
	if n == 0 {
		n = math.MaxInt64
	}
	removed := 0
	items = slices.DeleteFunc(items, func(text string) bool {
		if text != args[3] || int64(removed) == n {
			return false
		}
		removed++
		return true
	})
	if fromTail {
		slices.Reverse(items)
	}
	db.own(args[1]).list = deque{buf: items}
	db.settle(args[1])
	return integer(removed)
}

func isSide(word string) bool {
	return strings.EqualFold(word, "LEFT") || strings.EqualFold(word, "RIGHT")
}

func lmove(db *DB, args []string) Reply {
	if !isSide(args[3]) || !isSide(args[4]) {
		return failed(errSyntax)
	}
	from, wrong := db.read(args[1], List)
	switch {
	case from == nil:
		return nilReply
	case wrong:
		return failed(errWrongType)
	}
	if _, wrong := db.read(args[2], List); wrong {
		return failed(errWrongType)
	}
	text := db.own(args[1]).list.pop(isLeft(args[3]))
	db.edit(args[2], List).list.push(isLeft(args[4]), text)
	db.settle(args[1])
	return bulk(text)
}

func blmove(db *DB, args []string) Reply {
	if !isSide(args[3]) || !isSide(args[4]) {
		return failed(errSyntax)
	}
	seconds, ok := parseFloat(args[5])
	switch {
	case !ok || seconds > math.MaxInt64/1e6:
		return failed("ERR timeout is not a float or out of range")
	case seconds < 0:
		return failed("ERR timeout is negative")
	}
	if db.keys[args[1]] == nil {
		return Reply{Kind: block}
	}
	return lmove(db, args[:5])
}
