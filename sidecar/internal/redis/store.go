// Package redis has all operations of the sidecar on Redis. Apart from tests, only this
// package imports go-redis.
//
// Each operation is one Lua script and therefore atomic: a record is in exactly one
// place, which is the queue, an inbox, an in-flight hash, the delayed records or its end.
// Every operation may be repeated after an error, and a repeated call does not repeat its
// effect. The head of each script documents its KEYS, its ARGV, what it returns, and its
// rules.
package redis

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Options configures a Store.
type Options struct {
	// Prefix is the first part of every key; default "graflow". For a Redis Cluster it
	// needs a hash tag, such as "{graflow}".
	Prefix string
	// Queue is the key of the queue; default Prefix:queue. In a Redis Cluster it needs the
	// hash tag of the prefix. All sidecars of a prefix need the same.
	Queue string
	// QueueRight claims records from the right end of the queue, and requeues them there.
	QueueRight bool
	// RunTTL is the lease of a run; default 6 s.
	RunTTL time.Duration
	// MaxClaimBytes is the size at which a claim, or a chunk of any other move, ends;
	// default 4 MiB.
	MaxClaimBytes int
	// StoreValues writes results to Graflow's channel keys. It must be false in a Redis
	// Cluster, because those keys have no hash tag. Results without a session are written
	// in any case: their keys are under the prefix.
	StoreValues bool
	// ResultTTL is the time to live of results without a session; 0 means no end.
	ResultTTL time.Duration
	// DeadLetterMax is the number of dead letters that are kept, and DeadLetterMaxAge their
	// age; 0 means any.
	DeadLetterMax    int
	DeadLetterMaxAge time.Duration
}

// Bounds of the work of one script, so that Redis is never blocked for long.
const (
	chunkRecords  = 256
	chunkIDs      = 100
	chunkCommands = 8
	chunkLetters  = 8 // each with the stderr of a worker
	chunkTrimmed  = 100
)

// Bounds of a reply that carries records. Redis closes the connection of a client whose
// unsent replies exceed client-output-buffer-limit, which operators set as low as 1 MB
// for ordinary clients.
const (
	maxReply = 512 << 10 // bytes of records in one reply
	maxHead  = 64 << 10  // bytes of the head of a record that does not fit
	// Bounds for a claim whose reply was lost twice, possibly because of a lower limit.
	leastReply = 16 << 10
	leastHead  = 1 << 10
	// lostReplies is the number of calls with the first bounds.
	lostReplies = 2
)

// Retention of data in Redis.
const (
	goneKeep     = time.Hour
	attemptsKeep = 24 * time.Hour
	countedKeep  = 24 * time.Hour
)

// Store has the operations on one Redis for one key prefix. It is safe for concurrent
// use. A sidecar may have several Stores with different timeouts, but all claims of a run
// must use one of them, and all its reaps one: a Store remembers the used sequence
// numbers, which a failover may make Redis forget.
type Store struct {
	c    goredis.UniversalClient
	o    Options
	keys keys
	side string
	wait *waiter
	// format is the newest format of the keys that this Store knows.
	format string

	mu    sync.Mutex
	seqs  map[numbering]int64 // the highest used sequence number
	turns map[string]turn     // by run
	ticks map[string]ticking  // by run
}

// New returns a Store on c, which [Store.Close] closes. It does not connect. The client
// must allow at least two connections, one of which a [Store.Wait] uses; [NewClient]
// returns such a client.
func New(c goredis.UniversalClient, o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = "graflow"
	}
	if o.RunTTL <= 0 {
		o.RunTTL = 6 * time.Second
	}
	if o.MaxClaimBytes <= 0 {
		o.MaxClaimBytes = 4 << 20
	}
	c.AddHook(dialHook{})
	switch c.(type) {
	case *goredis.Client:
	case *goredis.ClusterClient:
		if hashTag(o.Prefix) == "" {
			return nil, fmt.Errorf("key prefix %q has no hash tag: in a Redis Cluster all keys must be in one slot, use for example {%s}", o.Prefix, o.Prefix)
		}
		if o.Queue != "" && hashTag(o.Queue) != hashTag(o.Prefix) {
			return nil, fmt.Errorf("queue %q does not have the hash tag of the key prefix %q: in a Redis Cluster all keys must be in one slot, use for example {%s}:%s", o.Queue, o.Prefix, hashTag(o.Prefix), strings.Trim(o.Queue, "{}"))
		}
		if o.StoreValues {
			return nil, errors.New("a Redis Cluster serves records without Graflow channels only: their keys have no hash tag")
		}
	default:
		return nil, fmt.Errorf("a Redis client of type %T is not supported", c)
	}
	s := &Store{c: c, o: o, keys: keys{o.Prefix, o.Queue}, side: "left", format: newestFormat, seqs: make(map[numbering]int64), turns: make(map[string]turn), ticks: make(map[string]ticking)}
	if o.QueueRight {
		s.side = "right"
	}
	if o.Queue != "" {
		s.side += " " + o.Queue
	}
	s.wait = &waiter{c: c, queue: s.keys.queue()}
	return s, nil
}

// Close closes the client. Running operations, including a [Store.Wait], fail at once; it
// is unknown whether Redis applied them.
func (s *Store) Close() error { return s.c.Close() }

// Ping sends a PING. An answer does not prove health: reads may work while writes do not,
// and the reverse.
func (s *Store) Ping(ctx context.Context) error {
	return failure("ping", s.c.Ping(ctx).Err())
}

// QueueLen returns the number of records in the queue.
func (s *Store) QueueLen(ctx context.Context) (int64, error) {
	n, err := s.c.LLen(ctx, s.keys.queue()).Result()
	return n, failure("queue length", err)
}

//go:embed prelude.lua
var prelude string

// scripted is the script of one operation. It is built at the first call of the
// operation: a sidecar needs a few of them, and each includes the prelude.
type scripted func() *goredis.Script

// script returns the script of an operation from the prelude and the parts of its source.
func script(parts ...string) scripted { return joined(prelude, parts) }

func joined(first string, parts []string) scripted {
	return sync.OnceValue(func() *goredis.Script { return goredis.NewScript(first + strings.Join(parts, "")) })
}

// call runs a script for a run. key is KEYS[1]; args follow the arguments of the prelude.
func (s *Store) call(ctx context.Context, sc scripted, run, key string, args ...any) *goredis.Cmd {
	return s.callWith(ctx, sc, key, append(s.argv(run, len(args)), args...))
}

// argv returns the arguments of the prelude, with capacity for n more.
func (s *Store) argv(run string, n int) []any {
	return append(make([]any, 0, 4+n), s.o.Prefix, run, s.o.RunTTL.Milliseconds(), s.side)
}

// callWith runs a script with arguments that begin with those of argv.
func (s *Store) callWith(ctx context.Context, sc scripted, key string, argv []any) *goredis.Cmd {
	cmd := sc().Run(ctx, s.c, []string{key}, argv...)
	switch err := cmd.Err(); {
	case s.lost(err):
		cmd.SetErr(fmt.Errorf("%w (%w)", ErrClusterNode, err))
	case goredis.HasErrorPrefix(err, "FORMAT "):
		cmd.SetErr(s.unknownFormat(err))
	case isWrongType(err):
		run, _ := argv[1].(string)
		cmd.SetErr(s.NameWrongType(ctx, err, run))
	case goredis.HasErrorPrefix(err, "QUEUE "):
		_, served, _ := strings.Cut(err.Error(), "QUEUE ")
		cmd.SetErr(&QueueError{Prefix: s.o.Prefix, Served: served, Own: s.keys.queue()})
	case err != nil:
		cmd.SetErr(s.rejected(ctx, err, argv))
	}
	return cmd
}

// lost reports whether the server answered that keys are on another node. A client of a
// Cluster would have gone there.
func (s *Store) lost(err error) bool {
	if _, single := s.c.(*goredis.Client); !single || err == nil {
		return false
	}
	_, moved := goredis.IsMovedError(err)
	return moved || goredis.HasErrorPrefix(err, "Script attempted to access a non local key")
}

// failure adds the operation to an error and converts the reply GONE to ErrGone.
func failure(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case goredis.HasErrorPrefix(err, "GONE "):
		return fmt.Errorf("%s: %w", op, ErrGone)
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
}

// errReply means that a script returned an unexpected reply.
var errReply = errors.New("unexpected reply from Redis")

// numbering is one of the two series of sequence numbers of a run: those of claimed
// records and those of adopted records.
type numbering struct {
	run     string
	adopted bool
}

// floor returns the highest used sequence number of a series.
func (s *Store) floor(n numbering) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seqs[n]
}

// raise raises the highest used sequence number of a series.
func (s *Store) raise(n numbering, seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seqs[n] = max(s.seqs[n], seq)
}

// forget removes the state of a run.
func (s *Store) forget(run string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seqs, numbering{run: run})
	delete(s.seqs, numbering{run: run, adopted: true})
	delete(s.turns, run)
	delete(s.ticks, run)
}

// turn numbers the claims of a run, so that Redis recognizes a claim that the network
// delivers late.
type turn struct {
	n     int64
	nonce string // of the claim with this turn
	tries int    // calls of the claim, see reply
}

// turn returns the next turn, or that of the last call for the same nonce.
func (s *Store) turn(run, nonce string) turn { return s.take(run, nonce, 0) }

// claimTurn returns the turn of a claim and counts its calls.
func (s *Store) claimTurn(run, nonce string) turn { return s.take(run, nonce, 1) }

func (s *Store) take(run, nonce string, tries int) turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.turns[run]
	if nonce != t.nonce || t.n == 0 {
		t = turn{n: t.n + 1, nonce: nonce}
	}
	t.tries += tries
	s.turns[run] = t
	return t
}

// reply returns the bounds of the reply to a claim: bytes of all records, and bytes of
// the head of a record that does not fit.
func (t turn) reply() (most, head int) {
	if t.tries > lostReplies {
		return leastReply, leastHead
	}
	return maxReply, maxHead
}

// flag returns name if set, and "" otherwise: a boolean for a script.
func flag(set bool, name string) string {
	if set {
		return name
	}
	return ""
}
