// Package acl knows the smallest set of permissions that a sidecar works with.
package acl

import (
	"slices"
	"strings"
)

// Needs say what a user of Redis is for.
type Needs struct {
	Prefix string // of Graflow's keys
	// Graflow adds what Graflow's own code in a worker does: it uses the same
	// credentials.
	Graflow bool
	// Cluster adds what a client of a Redis Cluster asks.
	Cluster bool
}

// commands are those that the sidecar and its scripts send; a test compares them
// with the scripts.
var commands = []string{
	// Connections, and the end of a wait from another one.
	"hello", "ping", "select", "client|setname", "client|id", "client|unblock",
	// Scripts. What they call needs permission too.
	"evalsha", "eval", "time",
	"get", "mget", "set", "del", "exists", "pexpire", "expire", "pttl", "ttl", "incrby", "incrbyfloat", "decr", "type", "scan",
	"llen", "lrange", "lpush", "rpush", "lpop", "rpop", "blmove",
	"hget", "hmget", "hgetall", "hset", "hsetnx", "hdel", "hexists", "hkeys", "hlen", "hscan",
	"sadd", "srem", "smembers", "sismember", "smismember", "scard",
	"zadd", "zrem", "zcard", "zscore", "zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore",
	"publish", "multi", "exec",
}

// graflows are those that Graflow's queue, channels, coordinator, graph store and
// feedback send besides.
var graflows = []string{
	"client|setinfo", "getex", "setex", "keys", "incr", "hvals", "ltrim", "lindex",
	"watch", "unwatch", "discard", "subscribe", "unsubscribe", "psubscribe", "punsubscribe",
	"script|load",
}

// Rules are the arguments of ACL SETUSER that follow the user's name, on and its
// password.
func Rules(n Needs) []string {
	p := literal(n.Prefix)
	// Not graphs: they are code that workers run, and the sidecar never touches
	// them.
	keys := []string{
		"~" + p + ":queue", "~" + p + ":completions:*", "~" + p + ":barrier:*", "~" + p + ":sidecar:*", "~" + p + ":workers",
		"~graflow:channel:*",
	}
	channels := []string{"&" + p + ":barrier_done:*"}
	allowed := slices.Clone(commands)
	if n.Graflow {
		// Feedback has no prefix in Graflow.
		keys = append(keys, "~"+p+":*", "~feedback:request:*", "~feedback:response:*")
		channels = append(channels, "&feedback:*")
		allowed = append(allowed, graflows...)
	}
	if n.Cluster {
		allowed = append(allowed, "cluster|slots", "cluster|shards", "command", "readonly")
	}
	rules := append([]string{"resetkeys", "resetchannels", "-@all"}, keys...)
	rules = append(rules, channels...)
	for _, c := range allowed {
		rules = append(rules, "+"+c)
	}
	return rules
}

// literal keeps a pattern's characters from meaning anything.
func literal(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}

// SetUser is the command that makes such a user, for redis-cli. Its password is
// left to fill in.
func SetUser(user string, n Needs) string {
	words := append([]string{"ACL", "SETUSER", user, "reset", "on", ">PASSWORD"}, Rules(n)...)
	for i, w := range words {
		if strings.ContainsAny(w, " \\'\"") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `\'`) + "'"
		}
	}
	return strings.Join(words, " ")
}
