package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// lookAtServer judges what INFO says.
func lookAtServer(f *findings, info map[string]string, tagged bool) {
	lookAtVersion(f, info)
	lookAtRole(f, info, tagged)
	lookAtEviction(f, info)
	lookAtPersistence(f, info)
	lookAtMemory(f, info)
}

// oldest is the first Redis that has all commands of ours (LPOP with a count,
// SMISMEMBER, BLMOVE).
const oldestMajor, oldestMinor = 6, 2

func lookAtVersion(f *findings, info map[string]string) {
	if v := info["valkey_version"]; v != "" {
		f.add("version", fine, "", "Valkey %s", v)
		return
	}
	v := info["redis_version"]
	var major, minor int
	if _, err := fmt.Sscanf(v, "%d.%d", &major, &minor); err != nil {
		f.add("version", unknown, "make sure that it is as new as Redis 6.2", "the server does not say its version")
		return
	}
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		f.add("version", bad, "use Redis 6.2 or later, or Valkey", "Redis %s", v)
		return
	}
	f.add("version", fine, "", "Redis %s", v)
}

func lookAtRole(f *findings, info map[string]string, tagged bool) {
	if info["cluster_enabled"] == "1" && !tagged {
		f.add("role", bad, "use a prefix with a hash tag, such as {graflow}, for the sidecars and their producers", "a node of a Redis Cluster, and the key prefix has no hash tag")
		return
	}
	if role := info["role"]; role == "slave" || role == "replica" {
		f.add("role", bad, "name the master, or the sentinels in REDIS_ADDRS with REDIS_SENTINEL_MASTER", "this is a replica of %s, which takes no writes", info["master_host"])
		return
	}
	if info["loading"] == "1" {
		f.add("role", warning, "wait", "it is loading its data")
		return
	}
	f.add("role", fine, "", "it takes writes, and has %s replicas", or(info["connected_slaves"], "0"))
}

func lookAtEviction(f *findings, info map[string]string) {
	policy, limit := info["maxmemory_policy"], number(info["maxmemory"])
	const remedy = "CONFIG SET maxmemory-policy noeviction, and in redis.conf: with any other one, records, leases or what was counted may vanish when memory is full"
	switch {
	case policy == "":
		f.add("eviction", unknown, remedy, "the server does not say its policy")
	case policy == "noeviction":
		f.add("eviction", fine, "", "noeviction")
	case limit == 0:
		f.add("eviction", warning, remedy, "%s, which does nothing for as long as maxmemory is 0", policy)
	default:
		f.add("eviction", bad, remedy, "%s", policy)
	}
}

func lookAtPersistence(f *findings, info map[string]string) {
	switch {
	case info["rdb_last_bgsave_status"] == "err" || info["aof_last_write_status"] == "err" || info["aof_last_bgrewrite_status"] == "err":
		f.add("persistence", bad, "see Redis' log: most of the time its disk is full or its folder cannot be written; until then it may refuse all writes", "the last save failed")
	case info["aof_enabled"] == "1":
		f.add("persistence", fine, "", "append-only file")
	case info["aof_enabled"] == "":
		f.add("persistence", unknown, "use appendonly yes", "the server does not say")
	default:
		f.add("persistence", warning, "appendonly yes, if tasks must outlive a crash of Redis", "no append-only file: a crash of Redis loses what came since the last snapshot, if there are any")
	}
}

const (
	memoryWarning = 80 // per cent of maxmemory
	memoryBad     = 95
)

func lookAtMemory(f *findings, info map[string]string) {
	used, limit := number(info["used_memory"]), number(info["maxmemory"])
	const remedy = "raise maxmemory, or find what fills it: sidecar status (a queue that grows, dead letters), redis-cli --bigkeys"
	text := or(info["used_memory_human"], "?") + " used"
	switch {
	case limit == 0:
		f.add("memory", fine, "", "%s, no limit set", text)
	case 100*used >= memoryBad*limit:
		f.add("memory", bad, remedy, "%s of %s", text, info["maxmemory_human"])
	case 100*used >= memoryWarning*limit:
		f.add("memory", warning, remedy, "%s of %s", text, info["maxmemory_human"])
	default:
		f.add("memory", fine, "", "%s of %s", text, info["maxmemory_human"])
	}
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return n
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
