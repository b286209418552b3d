package redismodel

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

var keyCommands = []command{
	{"DEL", -2, writes, del},
	{"UNLINK", -2, writes, del},
	{"RENAME", 3, writes, rename},
	{"EXISTS", -2, 0, exists},
	{"TYPE", 2, 0, typeOf},
	{"PEXPIRE", -3, writes, expireIn},
	{"EXPIRE", -3, writes, expireIn},
	{"PERSIST", 2, writes, persist},
	{"PTTL", 2, 0, timeToLive},
	{"TTL", 2, 0, timeToLive},
	{"KEYS", 2, 0, keysLike},
	{"SCAN", -2, 0, scan},
	{"DBSIZE", 1, 0, func(db *DB, _ []string) Reply { return integer(len(db.keys)) }},
	{"FLUSHALL", -1, writes, flush},
	{"FLUSHDB", -1, writes, flush},
}

func del(db *DB, args []string) Reply {
	n := 0
	for _, key := range args[1:] {
		if db.keys[key] != nil {
			delete(db.keys, key)
			n++
		}
	}
	return integer(n)
}

func rename(db *DB, args []string) Reply {
	v := db.keys[args[1]]
	if v == nil {
		return failed("ERR no such key")
	}
	delete(db.keys, args[1])
	db.keys[args[2]] = v
	return okReply
}

func exists(db *DB, args []string) Reply {
	n := 0
	for _, key := range args[1:] {
		n += count(db.keys[key] != nil)
	}
	return integer(n)
}

func typeOf(db *DB, args []string) Reply {
	if v := db.keys[args[1]]; v != nil {
		return Reply{Kind: Status, Text: v.kind.String()}
	}
	return Reply{Kind: Status, Text: "none"}
}

func expireIn(db *DB, args []string) Reply {
	n, ok := parseInt(args[2])
	if !ok {
		return failed(errInteger)
	}
	if len(args) > 3 {
		return failed("ERR Unsupported option " + args[3])
	}
	if n, ok = db.lifetime(n, strings.EqualFold(args[0], "EXPIRE")); !ok {
		return failed("ERR invalid expire time in '" + strings.ToLower(args[0]) + "' command")
	}
	if db.keys[args[1]] == nil {
		return integer(0)
	}
	if n <= 0 {
		delete(db.keys, args[1])
		return integer(1)
	}
	db.setExpiry(db.own(args[1]), db.now+n)
	return integer(1)
}

// lifetime returns a time to live in ms, and false if its end is no time of Redis.
func (db *DB) lifetime(n int64, seconds bool) (int64, bool) {
	if seconds {
		if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
			return 0, false
		}
		n *= 1000
	}
	return n, n <= math.MaxInt64-db.now
}

func persist(db *DB, args []string) Reply {
	if v := db.keys[args[1]]; v == nil || v.expires == 0 {
		return integer(0)
	}
	db.own(args[1]).expires = 0
	return integer(1)
}

func timeToLive(db *DB, args []string) Reply {
	v := db.keys[args[1]]
	switch {
	case v == nil:
		return integer(-2)
	case v.expires == 0:
		return integer(-1)
	}
	left := v.expires - db.now
	if strings.EqualFold(args[0], "TTL") {
		left = (left + 500) / 1000
	}
	return Reply{Kind: Int, Int: left}
}

func keysLike(db *DB, args []string) Reply {
	var found []string
	for _, key := range slices.Sorted(maps.Keys(db.keys)) {
		if glob(args[1], key) {
			found = append(found, key)
		}
	}
	return bulks(found)
}

// scan goes through the keys in the order of their hashes. A cursor is the hash of the
// next key, so that a key that exists throughout is found, whatever else changes.
func scan(db *DB, args []string) Reply {
	cursor, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return failed("ERR invalid cursor")
	}
	pattern, most, kind := "*", int64(10), ""
	for i := 2; i < len(args); i += 2 {
		if i+1 == len(args) {
			return failed(errSyntax)
		}
		switch strings.ToUpper(args[i]) {
		case "MATCH":
			pattern = args[i+1]
		case "COUNT":
			var ok bool
			if most, ok = parseInt(args[i+1]); !ok {
				return failed(errInteger)
			}
			if most < 1 {
				return failed(errSyntax)
			}
		case "TYPE":
			kind = strings.ToLower(args[i+1])
		default:
			return failed(errSyntax)
		}
	}
	var page []string
	next := "0"
	if cursor == 0 && int64(len(db.keys)) <= most {
		page = slices.Sorted(maps.Keys(db.keys))
	} else {
		page, next = db.page(cursor, most)
	}
	page = slices.DeleteFunc(page, func(key string) bool {
		return !glob(pattern, key) || kind != "" && db.keys[key].kind.String() != kind
	})
	return array(bulk(next), bulks(page))
}

func (db *DB) page(cursor uint64, most int64) (page []string, next string) {
	type hashed struct {
		hash uint64
		key  string
	}
	var all []hashed
	for key := range db.keys {
		h := fnv.New64a()
		_, _ = h.Write([]byte(key)) // never fails
		if sum := h.Sum64(); sum >= cursor {
			all = append(all, hashed{sum, key})
		}
	}
	slices.SortFunc(all, func(a, b hashed) int {
		if a.hash != b.hash {
			return count(a.hash > b.hash) - count(a.hash < b.hash)
		}
		return strings.Compare(a.key, b.key)
	})
	for i, e := range all {
		if int64(i) >= most && e.hash != all[i-1].hash {
			return page, strconv.FormatUint(e.hash, 10)
		}
		page = append(page, e.key)
	}
	return page, "0"
}

func flush(db *DB, _ []string) Reply {
	clear(db.keys)
	db.expire = 0
	return okReply
}
