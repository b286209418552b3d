package redismodel

import (
	"math"
	"slices"
	"strings"
)

var sortedSetCommands = []command{
	{"ZADD", -4, writes | grows, zadd},
	{"ZINCRBY", 4, writes | grows, zincrby},
	{"ZREM", -3, writes, zrem},
	{"ZCARD", 2, 0, zcard},
	{"ZSCORE", 3, 0, zscore},
	{"ZRANGE", -4, 0, zrange},
	{"ZREVRANGE", -4, 0, zrange},
	{"ZRANGEBYSCORE", -4, 0, zrangebyscore},
}

func zadd(db *DB, args []string) Reply {
	switch strings.ToUpper(args[2]) {
	case "NX", "XX", "GT", "LT", "CH", "INCR":
		return failed("ERR the model of Redis has no options of ZADD")
	}
	pairs := args[2:]
	if len(pairs)%2 == 1 {
		return failed(errSyntax)
	}
	scores := make([]float64, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		score, ok := parseFloat(pairs[i])
		if !ok {
			return failed(errFloat)
		}
		scores = append(scores, score)
	}
	if _, wrong := db.read(args[1], SortedSet); wrong {
		return failed(errWrongType)
	}
	v, n := db.edit(args[1], SortedSet), 0
	for i, score := range scores {
		n += count(v.rank(pairs[2*i+1], score))
	}
	return integer(n)
}

func zincrby(db *DB, args []string) Reply {
	by, ok := parseFloat(args[2])
	if !ok {
		return failed(errFloat)
	}
	v, wrong := db.read(args[1], SortedSet)
	if wrong {
		return failed(errWrongType)
	}
	score := by
	if v != nil {
		before, _ := v.score(args[3])
		score += before
	}
	if math.IsNaN(score) {
		return failed("ERR resulting score is not a number (NaN)")
	}
	db.edit(args[1], SortedSet).rank(args[3], score)
	return double(score)
}

func zrem(db *DB, args []string) Reply { return db.removeFrom(SortedSet, args) }

func zcard(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], SortedSet)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return integer(0)
	}
	return integer(len(v.order))
}

func zscore(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], SortedSet)
	if wrong {
		return failed(errWrongType)
	}
	if v != nil {
		if score, ok := v.score(args[2]); ok {
			return double(score)
		}
	}
	return nilReply
}

// ranked returns members, with their scores if asked.
func ranked(list []scored, withScores bool) Reply {
	out := make([]Reply, 0, 2*len(list))
	for _, s := range list {
		switch {
		case !withScores:
			out = append(out, bulk(s.name))
		default:
			out = append(out, array(bulk(s.name), double(s.score)))
		}
	}
	if withScores {
		return Reply{Kind: pairs, Array: out}
	}
	return array(out...)
}

func zrange(db *DB, args []string) Reply {
	withScores := false
	for _, option := range args[4:] {
		if !strings.EqualFold(option, "WITHSCORES") {
			return failed(errSyntax)
		}
		withScores = true
	}
	v, wrong := db.read(args[1], SortedSet)
	var order []scored
	if v != nil && !wrong {
		order = v.order
	}
	first, last, ok := span(args[2], args[3], len(order))
	switch {
	case !ok:
		return failed(errInteger)
	case wrong:
		return failed(errWrongType)
	}
	if len(args[0]) > len("ZRANGE") {
		order = slices.Clone(order)
		slices.Reverse(order)
	}
	return ranked(order[first:last], withScores)
}

// bound is an end of a range of scores.
type bound struct {
	score float64
	open  bool
}

func parseBound(text string) (b bound, ok bool) {
	text, b.open = strings.CutPrefix(text, "(")
	if text == "" {
		return b, true // strtod reads 0
	}
	b.score, ok = parseFloat(text)
	return b, ok
}

func zrangebyscore(db *DB, args []string) Reply {
	low, ok1 := parseBound(args[2])
	high, ok2 := parseBound(args[3])
	offset, limit, withScores := int64(0), int64(-1), false
	for i := 4; i < len(args); i++ {
		switch {
		case strings.EqualFold(args[i], "WITHSCORES"):
			withScores = true
		case strings.EqualFold(args[i], "LIMIT") && i+2 < len(args):
			var ok3, ok4 bool
			offset, ok3 = parseInt(args[i+1])
			limit, ok4 = parseInt(args[i+2])
			if !ok3 || !ok4 {
				return failed(errInteger)
			}
			i += 2
		default:
			return failed(errSyntax)
		}
	}
	if !ok1 || !ok2 {
		return failed("ERR min or max is not a float")
	}
	v, wrong := db.read(args[1], SortedSet)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return array()
	}
	var found []scored
	for _, s := range v.order {
		if s.score < low.score || low.open && s.score == low.score {
			continue
		}
		if s.score > high.score || high.open && s.score == high.score || limit >= 0 && int64(len(found)) == limit {
			break
		}
		if offset != 0 {
			offset--
			continue
		}
		found = append(found, s)
	}
	return ranked(found, withScores)
}
