package redismodel

import (
	"math"
	"strconv"
	"strings"
)

var stringCommands = []command{
	{"GET", 2, 0, get},
	{"SET", -3, writes | grows, set},
	{"MGET", -2, 0, mget},
	{"STRLEN", 2, 0, strlen},
	{"INCR", 2, writes | grows, incr},
	{"DECR", 2, writes | grows, incr},
	{"INCRBY", 3, writes | grows, incr},
	{"DECRBY", 3, writes | grows, incr},
	{"INCRBYFLOAT", 3, writes | grows, incrFloat},
}

func get(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], String)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return nilReply
	}
	return bulk(v.text)
}

func mget(db *DB, args []string) Reply {
	list := make([]Reply, 0, len(args)-1)
	for _, key := range args[1:] {
		if v, wrong := db.read(key, String); v != nil && !wrong {
			list = append(list, bulk(v.text))
		} else {
			list = append(list, nilReply)
		}
	}
	return array(list...)
}

func strlen(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], String)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return integer(0)
	}
	return integer(len(v.text))
}

func set(db *DB, args []string) Reply {
	var onlyNew, onlyOld, keep bool
	lifetime := int64(0)
	for i := 3; i < len(args); i++ {
		switch option := strings.ToUpper(args[i]); option {
		case "NX":
			onlyNew = true
		case "XX":
			onlyOld = true
		case "KEEPTTL":
			keep = true
		case "PX", "EX":
			i++
			if i == len(args) || lifetime != 0 {
				return failed(errSyntax)
			}
			n, ok := parseInt(args[i])
			if !ok {
				return failed(errInteger)
			}
			if lifetime, ok = db.lifetime(n, option == "EX"); !ok || n <= 0 {
				return failed("ERR invalid expire time in 'set' command")
			}
		default:
			return failed(errSyntax)
		}
	}
	if onlyNew && onlyOld || keep && lifetime != 0 {
		return failed(errSyntax)
	}
	before := db.keys[args[1]]
	if onlyNew && before != nil || onlyOld && before == nil {
		return nilReply
	}
	v := &value{kind: String, epoch: db.epoch, text: args[2]}
	if keep && before != nil {
		v.expires = before.expires
	}
	db.keys[args[1]] = v
	if lifetime > 0 {
		db.setExpiry(v, db.now+lifetime)
	}
	return okReply
}

func incr(db *DB, args []string) Reply {
	by := int64(1)
	if len(args) == 3 {
		var ok bool
		if by, ok = parseInt(args[2]); !ok {
			return failed(errInteger)
		}
	}
	if name := strings.ToUpper(args[0]); name == "DECR" || name == "DECRBY" {
		if by == math.MinInt64 {
			return failed("ERR decrement would overflow")
		}
		by = -by
	}
	v, wrong := db.read(args[1], String)
	if wrong {
		return failed(errWrongType)
	}
	n := int64(0)
	if v != nil {
		var ok bool
		if n, ok = parseInt(v.text); !ok {
			return failed(errInteger)
		}
	}
	if by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by {
		return failed("ERR increment or decrement would overflow")
	}
	n += by
	db.edit(args[1], String).text = strconv.FormatInt(n, 10)
	return Reply{Kind: Int, Int: n}
}

func incrFloat(db *DB, args []string) Reply {
	v, wrong := db.read(args[1], String)
	if wrong {
		return failed(errWrongType)
	}
	before := "0"
	if v != nil {
		before = v.text
	}
	if _, ok := longDouble(before); !ok {
		return failed(errFloat)
	}
	if _, ok := longDouble(args[2]); !ok {
		return failed(errFloat)
	}
	sum, ok := addFloats(before, args[2])
	if !ok || sum == "" {
		return failed("ERR increment would produce NaN or Infinity")
	}
	db.edit(args[1], String).text = sum
	return bulk(sum)
}
