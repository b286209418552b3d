package redismodel

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

var serverCommands = []command{
	{"PING", -1, 0, ping},
	{"ECHO", 2, 0, func(_ *DB, args []string) Reply { return bulk(args[1]) }},
	{"TIME", 1, 0, timeNow},
	{"PUBLISH", 3, 0, publish},
	{"INFO", -1, 0, info},
	{"CONFIG", -2, noScript, config},
	{"EVAL", -3, noScript, eval},
	{"EVALSHA", -3, noScript, evalsha},
	{"SCRIPT", -2, noScript, script},
}

func ping(_ *DB, args []string) Reply {
	switch len(args) {
	case 1:
		return Reply{Kind: Status, Text: "PONG"}
	case 2:
		return bulk(args[1])
	default:
		return arityError("ping")
	}
}

func timeNow(db *DB, _ []string) Reply {
	return array(bulk(strconv.FormatInt(db.now/1000, 10)), bulk(strconv.FormatInt(db.now%1000*1000+db.micros, 10)))
}

func publish(db *DB, args []string) Reply { return integer(db.publish(args[1], args[2])) }

// info has the fields of INFO that the sidecar and its tests read.
func info(db *DB, _ []string) Reply {
	lines := []string{
		"# Server", "redis_version:7.0.15", "redis_mode:standalone",
		"# Memory", "used_memory:1000000", "maxmemory:" + db.config["maxmemory"], "maxmemory_policy:" + db.config["maxmemory-policy"],
		"# Persistence", "loading:0", "aof_enabled:0", "rdb_last_bgsave_status:ok",
		"# Replication", "role:master", "connected_slaves:0",
		"# Keyspace", "db0:keys=" + strconv.Itoa(len(db.keys)) + ",expires=0,avg_ttl=0", "",
	}
	return bulk(strings.Join(lines, "\r\n"))
}

func config(db *DB, args []string) Reply {
	switch {
	case strings.EqualFold(args[1], "GET") && len(args) >= 3:
		r := Reply{Kind: Map}
		for _, name := range slices.Sorted(maps.Keys(db.config)) {
			for _, pattern := range args[2:] {
				if glob(strings.ToLower(pattern), name) {
					r.Array = append(r.Array, bulk(name), bulk(db.config[name]))
					break
				}
			}
		}
		return r
	case strings.EqualFold(args[1], "SET") && len(args) >= 4 && len(args)%2 == 0:
		for i := 2; i < len(args); i += 2 {
			db.config[strings.ToLower(args[i])] = args[i+1]
		}
		return okReply
	default:
		return unknownSubcommand(args)
	}
}

func unknownSubcommand(args []string) Reply {
	return failed("ERR unknown subcommand '" + args[1] + "'. Try " + strings.ToUpper(args[0]) + " HELP.")
}

func eval(db *DB, args []string) Reply {
	sha := SHA1(args[1])
	if _, err := db.LoadScript(args[1]); err != nil {
		return failed("ERR Error compiling script (new function): " + strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return db.eval(sha, args[2:])
}

func evalsha(db *DB, args []string) Reply {
	sha := strings.ToLower(args[1])
	if db.scripts[sha] == "" {
		return failed(errNoScript)
	}
	return db.eval(sha, args[2:])
}

func script(db *DB, args []string) Reply {
	switch {
	case strings.EqualFold(args[1], "LOAD") && len(args) == 3:
		sha, err := db.LoadScript(args[2])
		if err != nil {
			return failed("ERR Error compiling script (new function): " + strings.ReplaceAll(err.Error(), "\n", " "))
		}
		return bulk(sha)
	case strings.EqualFold(args[1], "EXISTS") && len(args) >= 3:
		list := make([]Reply, len(args)-2)
		for i, sha := range args[2:] {
			list[i] = boolean(db.scripts[strings.ToLower(sha)] != "")
		}
		return array(list...)
	case strings.EqualFold(args[1], "FLUSH"):
		clear(db.scripts)
		return okReply
	default:
		return unknownSubcommand(args)
	}
}
