package redismodel

import (
	"math"
	"strconv"
)

var hashCommands = []command{
	{"HGET", 3, 0, hget},
	{"HMGET", -3, 0, hmget},
	{"HGETALL", 2, 0, hgetall},
	{"HKEYS", 2, 0, hkeys},
	{"HVALS", 2, 0, hvals},
	{"HLEN", 2, 0, hlen},
	{"HEXISTS", 3, 0, hexists},
	{"HSET", -4, writes | grows, hset},
	{"HSETNX", 4, writes | grows, hsetnx},
	{"HDEL", -3, writes, hdel},
	{"HINCRBY", 4, writes | grows, hincrby},
}

// fieldsOf calls f with the fields of a hash, which are none for a missing key.
func fieldsOf(db *DB, key string, f func(v *value) Reply) Reply {
	v, wrong := db.read(key, Hash)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		v = &value{kind: Hash}
	}
	return f(v)
}

func hget(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		if text, ok := v.get(args[2]); ok {
			return bulk(text)
		}
		return nilReply
	})
}

func hmget(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		list := make([]Reply, len(args)-2)
		for i, name := range args[2:] {
			if text, ok := v.get(name); ok {
				list[i] = bulk(text)
			}
		}
		return array(list...)
	})
}

func hgetall(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		list := make([]Reply, 0, 2*len(v.fields))
		for _, f := range v.fields {
			list = append(list, bulk(f.name), bulk(f.text))
		}
		return Reply{Kind: Map, Array: list}
	})
}

func hkeys(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		list := make([]Reply, len(v.fields))
		for i, f := range v.fields {
			list[i] = bulk(f.name)
		}
		return array(list...)
	})
}

func hvals(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		list := make([]Reply, len(v.fields))
		for i, f := range v.fields {
			list[i] = bulk(f.text)
		}
		return array(list...)
	})
}

func hlen(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply { return integer(len(v.fields)) })
}

func hexists(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		_, ok := v.get(args[2])
		return boolean(ok)
	})
}

func hset(db *DB, args []string) Reply {
	if len(args)%2 == 1 {
		return arityError("hset")
	}
	if _, wrong := db.read(args[1], Hash); wrong {
		return failed(errWrongType)
	}
	v, n := db.edit(args[1], Hash), 0
	for i := 2; i < len(args); i += 2 {
		n += count(v.put(args[i], args[i+1]))
	}
	return integer(n)
}

func hsetnx(db *DB, args []string) Reply {
	return fieldsOf(db, args[1], func(v *value) Reply {
		if _, ok := v.get(args[2]); ok {
			return integer(0)
		}
		db.edit(args[1], Hash).put(args[2], args[3])
		return integer(1)
	})
}

func hdel(db *DB, args []string) Reply { return db.removeFrom(Hash, args) }

func hincrby(db *DB, args []string) Reply {
	by, ok := parseInt(args[3])
	if !ok {
		return failed(errInteger)
	}
	return fieldsOf(db, args[1], func(v *value) Reply {
		n := int64(0)
		if text, ok := v.get(args[2]); ok {
			if n, ok = parseInt(text); !ok {
				return failed("ERR hash value is not an integer")
			}
		}
		if by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by {
			return failed("ERR increment or decrement would overflow")
		}
		db.edit(args[1], Hash).put(args[2], strconv.FormatInt(n+by, 10))
		return Reply{Kind: Int, Int: n + by}
	})
}
