package redismodel

var setCommands = []command{
	{"SADD", -3, writes | grows, sadd},
	{"SREM", -3, writes, srem},
	{"SCARD", 2, 0, scard},
	{"SMEMBERS", 2, 0, smembers},
	{"SISMEMBER", 3, 0, sismember},
	{"SMISMEMBER", -3, 0, smismember},
}

// membersOf calls f with a set, which is empty for a missing key.
func membersOf(db *DB, key string, f func(v *value) Reply) Reply {
	v, wrong := db.read(key, SetType)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		v = &value{kind: SetType}
	}
	return f(v)
}

func sadd(db *DB, args []string) Reply {
	if _, wrong := db.read(args[1], SetType); wrong {
		return failed(errWrongType)
	}
	v, n := db.edit(args[1], SetType), 0
	for _, name := range args[2:] {
		n += count(v.put(name, ""))
	}
	return integer(n)
}

func srem(db *DB, args []string) Reply { return db.removeFrom(SetType, args) }

func scard(db *DB, args []string) Reply {
	return membersOf(db, args[1], func(v *value) Reply { return integer(len(v.fields)) })
}

func smembers(db *DB, args []string) Reply {
	return membersOf(db, args[1], func(v *value) Reply {
		list := make([]Reply, len(v.fields))
		for i, f := range v.fields {
			list[i] = bulk(f.name)
		}
		return Reply{Kind: Set, Array: list}
	})
}

func sismember(db *DB, args []string) Reply {
	return membersOf(db, args[1], func(v *value) Reply {
		_, ok := v.get(args[2])
		return boolean(ok)
	})
}

func smismember(db *DB, args []string) Reply {
	return membersOf(db, args[1], func(v *value) Reply {
		list := make([]Reply, len(args)-2)
		for i, name := range args[2:] {
			_, ok := v.get(name)
			list[i] = boolean(ok)
		}
		return array(list...)
	})
}
