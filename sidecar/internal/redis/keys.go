package redis

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"strings"
)

// keys names everything that the sidecar touches in Redis. The scripts derive
// the same names (prelude.lua); here are those that Go code sends itself.
//
//	P:queue                        list: records, Graflow's
//	P:completions:{group}          hash, Graflow's
//	P:barrier:{group}[:expected]   strings, Graflow's
//	P:barrier_done:{group}         channel, Graflow's
//	P:sidecar:runs                 set: ids of the member runs
//	P:sidecar:watch                hash with a TTL: at and page of the last look at the
//	                               members, and for each absent one since when
//	P:sidecar:clock                hash: at, what Redis' clock said at the last look, and
//	                               ahead, by how many ms it has stepped back before
//	P:sidecar:gone                 sorted set: ids of runs that ended, by time
//	P:workers                      set, Graflow's: host:run of the member runs
//	P:sidecar:alive:{run}          string with a TTL: the run's lease
//	P:sidecar:inbox:{run}          list: records that a BLMOVE brought
//	P:sidecar:inflight:{run}       hash: delivery id → record
//	P:sidecar:meta:{run}           hash: seq, turn, claim first last (the last claim),
//	                               adopted, worker (its entry in P:workers), held ended
//	                               (how the run ended), kinds (the patterns of a run that
//	                               does not take every task)
//	P:sidecar:asked:{run}          hash with a TTL: lane → turn, verdict and result of the
//	                               last change that a worker asked for
//	P:sidecar:parts:{delivery}     list with a TTL: the parts of a record that is read in parts
//	P:sidecar:info:{run}           string with the lease's TTL: fleet.Run as JSON
//	P:sidecar:paused               hash: run, or * for all → who and when, as JSON
//	P:sidecar:orders:{run}         list with a TTL: fleet.Command as JSON
//	P:sidecar:counted:{day}:{group} set with a TTL: task NUL created_at
//	P:sidecar:unrouted             list: records that no kind of worker took where they
//	                               were seen, each behind the time and a colon
//	P:sidecar:attempts             hash: SHA-1 of a record → count:cause and more, see prelude.lua
//	P:sidecar:attempts:at          sorted set: the same SHA-1s, by time
//	P:sidecar:delayed              sorted set: delivery ids, by the time they are due
//	P:sidecar:delayed:records      hash: delivery id → record
//	P:sidecar:isolated             sorted set: those of the delayed ids whose records an
//	                               idle sidecar may take before, by the same time
//	P:sidecar:dead                 sorted set: delivery ids, by time
//	P:sidecar:dead:{delivery}      hash: raw, reason, message, stderr, attempts,
//	                               time, task_id, group_id, session_id
//
// Counted tasks have one set for each group and UTC day; a task is a duplicate if it is
// in the set of today or of yesterday. One set for each group would have its TTL renewed
// for ever by a group name that is used every hour, and never shrink; without the renewal
// it would expire in the middle of a group and a task would be counted twice.
//
// Times are Unix milliseconds, but for those in gone, attempts:at, delayed, isolated and
// unrouted, which are that and what the clock has stepped back (prelude.lua). A run id holds no
// brace, so a hash tag in P is the only one in any of these names and puts them all into
// one slot.
type keys struct{ prefix string }

func (k keys) queue() string              { return k.prefix + ":queue" }
func (k keys) own(name string) string     { return k.prefix + ":sidecar:" + name }
func (k keys) alive(run string) string    { return k.own("alive:" + run) }
func (k keys) inbox(run string) string    { return k.own("inbox:" + run) }
func (k keys) inflight(run string) string { return k.own("inflight:" + run) }
func (k keys) asked(run string) string    { return k.own("asked:" + run) }

// channelPrefix stands before the session and the key of everything in Graflow's
// channels. It is hard-coded in Graflow (channels/redis_channel.py): not under P.
const channelPrefix = "graflow:channel:"

// resultKey is where Graflow looks for a task's result.
func resultKey(session, task string) string {
	return channelPrefix + session + ":" + ResultKey(task)
}

// ResultKey is the key of a task's result in its session's channel.
func ResultKey(task string) string { return task + ".__result__" }

// hashTag is the part of a key that a Redis Cluster hashes if it has one:
// what stands between the first brace and the next closing one.
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

// maxWorkerID bounds the readable part of a run id: it is part of every
// delivery id, and those are stored once a record.
const maxWorkerID = 48

// NewRunID returns a run id that was never used before: the worker id, for
// people, and 128 random bits in hex. Of the worker id letters, digits, '-'
// and '_' stay, other characters become '_': the id stands in key names, in
// delivery ids (which end in a dot and a number) and in logs.
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

// RecordSHA is the name under which a record's attempts are counted: the
// SHA-1 of its bytes in hex.
func RecordSHA(record []byte) string {
	sum := sha1.Sum(record)
	return hex.EncodeToString(sum[:])
}
