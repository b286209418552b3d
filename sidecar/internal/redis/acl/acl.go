// Package acl defines the smallest set of Redis permissions that a sidecar needs.
package acl

import (
	"cmp"
	"slices"
	"strings"
)

// Needs describes the use of a Redis user.
type Needs struct {
	Prefix string // prefix of Graflow's keys
	Queue  string // key of the queue; Prefix:queue if empty
	// Graflow adds the permissions of Graflow's own code in a worker, which uses the same
	// credentials.
	Graflow bool
	// Cluster adds the commands of a Redis Cluster client.
	Cluster bool
}

// commands are the commands that the sidecar and its scripts send; a test compares them
// with the scripts.
var commands = []string{
	// Connections, and the end of a wait from another connection.
	"hello", "ping", "select", "client|setname", "client|id", "client|unblock",
	// Scripts. The commands that they call need permission too.
	"evalsha", "eval", "time",
	"get", "mget", "set", "del", "exists", "pexpire", "expire", "pttl", "ttl", "incrby", "incrbyfloat", "decr", "type", "scan", "rename",
	"llen", "lrange", "lpush", "rpush", "lpop", "rpop", "blmove",
	"hget", "hmget", "hgetall", "hset", "hsetnx", "hdel", "hexists", "hkeys", "hlen", "hscan",
	"sadd", "srem", "smembers", "sismember", "smismember", "scard",
	"zadd", "zrem", "zcard", "zscore", "zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore",
	"publish", "multi", "exec",
}

// graflows are the additional commands of Graflow's queue, channels, coordinator, graph
// store and feedback.
var graflows = []string{
	"client|setinfo", "getex", "setex", "keys", "incr", "hvals", "ltrim", "lindex",
	"watch", "unwatch", "discard", "subscribe", "unsubscribe", "psubscribe", "punsubscribe",
	"script|load",
}

// Rules returns the arguments of ACL SETUSER after the user's name, "on" and its
// password.
func Rules(n Needs) []string {
	p := literal(n.Prefix)
	// Without graphs: they are code that workers run, and the sidecar never uses them.
	keys := []string{
		"~" + cmp.Or(literal(n.Queue), p+":queue"), "~" + p + ":completions:*", "~" + p + ":barrier:*", "~" + p + ":sidecar:*", "~" + p + ":workers",
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

// literal escapes the special characters of a pattern.
func literal(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}

// SetUser returns the command that creates such a user, for redis-cli, with a placeholder
// for the password.
func SetUser(user string, n Needs) string {
	words := append([]string{"ACL", "SETUSER", user, "reset", "on", ">PASSWORD"}, Rules(n)...)
	for i, w := range words {
		if strings.ContainsAny(w, " \\'\"") {
			words[i] = "'" + strings.ReplaceAll(w, "'", `\'`) + "'"
		}
	}
	return strings.Join(words, " ")
}
