package redis

import (
	"cmp"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// keys builds the names of all keys that the sidecar uses in Redis. The scripts derive
// the same names (prelude.lua).
//
//	P:queue                        list: records, of Graflow; Options.Queue names another
//	P:completions:{group}          hash, of Graflow
//	P:barrier:{group}[:expected]   strings, of Graflow
//	P:barrier_done:{group}         channel, of Graflow
//	P:sidecar:runs                 set: ids of the member runs
//	P:sidecar:format               string: the format in which the sidecars write
//	P:sidecar:queue                string: the name of the queue, if that was not P:queue
//	                               at all times
//	P:sidecar:watch                hash with a TTL: time and page of the last check of
//	                               the members, and for each absent one since when
//	P:sidecar:clock                hash: at, Redis' clock at the last check; ahead, the ms
//	                               by which it has stepped back before
//	P:sidecar:gone                 sorted set: ids of runs that ended, by time
//	P:workers                      set, of Graflow: host:run of the member runs
//	P:sidecar:alive:{run}          string with a TTL: the run's lease
//	P:sidecar:inbox:{run}          list: records that a BLMOVE moved
//	P:sidecar:inflight:{run}       hash: delivery id → record
//	P:sidecar:meta:{run}           hash: seq, turn, claim first last (the last claim),
//	                               adopted, format (the newest that the run knows), worker
//	                               (its entry in P:workers), held ended (how the run
//	                               ended), kinds (the patterns of a run that does not take
//	                               every task)
//	P:sidecar:asked:{run}          hash with a TTL: lane → turn, verdict and result of the
//	                               last change that a worker requested
//	P:sidecar:parts:{delivery}     list with a TTL: the parts of a record that is read in parts
//	P:sidecar:info:{run}           string with the lease's TTL: fleet.Run as JSON
//	P:sidecar:paused               hash: run, or * for all → author and time, as JSON
//	P:sidecar:orders:{run}         list with a TTL: fleet.Command as JSON
//	P:sidecar:counted:{day}:{group} set with a TTL: task NUL created_at. The day is that
//	                               on which the barrier counted for the first time, or up
//	                               to six days before the barrier counted for the last time
//	P:sidecar:unrouted             list: records that matched no kind of a sidecar, each
//	                               after a time and a colon
//	P:sidecar:attempts             hash: SHA-1 of a record → count:cause and more, see prelude.lua
//	P:sidecar:attempts:at          sorted set: the same SHA-1s, by time
//	P:sidecar:delayed              sorted set: delivery ids, by the time they are due
//	P:sidecar:delayed:records      hash: delivery id → record
//	P:sidecar:isolated             sorted set: the delayed ids whose records an idle
//	                               sidecar may take earlier, by the same time
//	P:sidecar:result:{task}        string with a TTL: the result of a task without a
//	                               session, JSON
//	P:sidecar:dead                 sorted set: delivery ids, by time
//	P:sidecar:dead:{delivery}      hash: raw, reason, message, stderr, attempts,
//	                               time, task_id, group_id, session_id
//
// Counted tasks have one set for each group and UTC day on which a barrier counted for the
// first time; a task is a duplicate if it is in the set of today, of yesterday or of an open
// barrier. A single set for each group would never shrink for a group name that is used
// every hour, since each use renews its TTL; without the renewal it would expire in the
// middle of a group, and a task would be counted twice.
//
// Times are Unix milliseconds. Those in gone, attempts:at, delayed, isolated and unrouted
// also include the steps back of the clock (prelude.lua). A run id contains no brace, so a
// hash tag in P is the only one in each of these names and maps them all to one slot.
type keys struct{ prefix, list string }

func (k keys) queue() string              { return cmp.Or(k.list, k.prefix+":queue") }
func (k keys) own(name string) string     { return k.prefix + ":sidecar:" + name }
func (k keys) alive(run string) string    { return k.own("alive:" + run) }
func (k keys) inbox(run string) string    { return k.own("inbox:" + run) }
func (k keys) inflight(run string) string { return k.own("inflight:" + run) }
func (k keys) asked(run string) string    { return k.own("asked:" + run) }

// channelPrefix is the prefix of all keys of Graflow's channels. Graflow hard-codes it
// (channels/redis_channel.py); it is independent of the key prefix.
const channelPrefix = "graflow:channel:"

// result returns the key of a task's result. Without a session it is a key under the
// prefix: two prefixes may have tasks of the same name.
func (k keys) result(session, task string) string {
	if session == "" {
		return k.own("result:" + task)
	}
	return channelPrefix + session + ":" + ResultKey(task)
}

// ResultKey returns the key of a task's result within the channel of its session.
func ResultKey(task string) string { return task + ".__result__" }

// hashTag returns the hash tag of a key for Redis Cluster: the text between the first
// brace and the next closing one.
func hashTag(key string) string {
	_, rest, found := strings.Cut(key, "{")
	if !found {
		return ""
	}
	tag, _, found := strings.Cut(rest, "}")
	if !found {
		return ""
	}
	return tag
}

// maxWorkerID is the maximum length of the readable part of a run id. Every delivery id
// contains it, and one is stored for each record.
const maxWorkerID = 48

// NewRunID returns a run id that was never used before: the worker id, for readers, and
// 128 random bits in hex. Letters, digits, '-' and '_' of the worker id stay, other
// characters become '_': the id is part of key names, delivery ids (which end in a dot
// and a number) and logs.
func NewRunID(workerID string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		default:
			return '_'
		}
	}, workerID)
	if clean == "" {
		clean = "worker"
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand ends the program instead
	return clean[:min(len(clean), maxWorkerID)] + "-" + hex.EncodeToString(random[:])
}

// RecordSHA returns the SHA-1 of a record in hex, under which its attempts are counted.
func RecordSHA(record []byte) string {
	sum := sha1.Sum(record)
	return hex.EncodeToString(sum[:])
}
