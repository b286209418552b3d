// Package redis is everything that the sidecar says to Redis, and the only
// importer of go-redis outside tests.
//
// Each operation is one Lua script, so that it is one step for everybody else:
// a record is in the queue, in an inbox, in an in-flight hash, among the
// delayed ones or ended, never in two of these places and never in none. Every
// operation may be repeated after an error, and what the first try did is then
// not done again. Each script says in its comments which rules it keeps and why.
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

// Options are fixed for the life of a Store.
type Options struct {
	// Prefix is the first part of every key; default "graflow". For a Redis
	// Cluster it needs a hash tag, such as "{graflow}".
	Prefix string
	// QueueRight takes records from the right end of the queue, and hands them
	// back there.
	QueueRight bool
	// RunTTL is a run's lease; default 6 s.
	RunTTL time.Duration
	// MaxClaimBytes ends a claim, and a chunk of any other move, at the record
	// that reaches it; default 4 MiB.
	MaxClaimBytes int
	// StoreValues writes results to Graflow's channel keys. It must be false in
	// a Redis Cluster: those keys have no hash tag.
	StoreValues bool
}

// Bounds of the work that one script does, so that Redis is never held up for
// long.
const (
	chunkRecords = 256
	chunkIDs     = 100
	chunkOrders  = 8
	chunkLetters = 8 // each with the last words of a worker
)

// Bounds of a reply that carries records. Redis closes the connection of a client
// whose unsent replies exceed client-output-buffer-limit, which operators set as low
// as 1 MB for ordinary clients.
const (
	maxReply = 512 << 10 // bytes of records in one reply
	maxHead  = 64 << 10  // bytes of a record that does not fit into it
	// The same for a claim whose reply has been lost twice: a lower limit may be why.
	leastReply = 16 << 10
	leastHead  = 1 << 10
	// lostReplies is how often the first bounds are tried.
	lostReplies = 2
)

// How long things are kept in Redis.
const (
	goneKeep     = time.Hour
	attemptsKeep = 24 * time.Hour
	countedKeep  = 24 * time.Hour
)

// Store talks to one Redis for one prefix. It is safe for concurrent use. A
// sidecar may have several, on clients with other timeouts, but all claims of
// a run must go through one of them, and all its reaps through one: a Store
// remembers which sequence numbers were used, for the case that a failover
// makes Redis forget it.
type Store struct {
	c    goredis.UniversalClient
	o    Options
	keys keys
	side string
	wait *waiter

	mu    sync.Mutex
	seqs  map[numbering]int64 // the highest sequence number seen
	turns map[string]turn     // of each run
	ticks map[string]ticking  // likewise
}

// New returns a Store on c, which [Store.Close] closes. It does not connect.
// The client must have room for two connections at least, one of which a
// [Store.Wait] holds; [NewClient] makes such a client.
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
		if o.StoreValues {
			return nil, errors.New("a Redis Cluster serves records without Graflow channels only: their keys have no hash tag")
		}
	default:
		return nil, fmt.Errorf("a Redis client of type %T is not supported", c)
	}
	s := &Store{c: c, o: o, keys: keys{o.Prefix}, side: "left", seqs: make(map[numbering]int64), turns: make(map[string]turn), ticks: make(map[string]ticking)}
	if o.QueueRight {
		s.side = "right"
	}
	s.wait = &waiter{c: c, queue: s.keys.queue()}
	return s, nil
}

// Close closes the client that New was given. Operations that are running,
// a [Store.Wait] too, fail at once; what Redis made of them is not known.
func (s *Store) Close() error { return s.c.Close() }

// Ping asks Redis for a sign of life. An answer is not health: reads may work
// where writes do not, and the reverse.
func (s *Store) Ping(ctx context.Context) error {
	return failure("ping", s.c.Ping(ctx).Err())
}

// QueueLen is the number of records in the queue.
func (s *Store) QueueLen(ctx context.Context) (int64, error) {
	n, err := s.c.LLen(ctx, s.keys.queue()).Result()
	return n, failure("queue length", err)
}

//go:embed prelude.lua
var prelude string

// scripted is one operation's script. It is put together when the operation is
// called first: a sidecar needs a few of them, and each has the prelude in it.
type scripted func() *goredis.Script

// script is one operation's Lua source, in parts, behind the prelude.
func script(parts ...string) scripted { return joined(prelude, parts) }

func joined(first string, parts []string) scripted {
	return sync.OnceValue(func() *goredis.Script { return goredis.NewScript(first + strings.Join(parts, "")) })
}

// call runs a script for a run. key is KEYS[1]; args follow those that the
// prelude reads.
func (s *Store) call(ctx context.Context, sc scripted, run, key string, args ...any) *goredis.Cmd {
	return s.callWith(ctx, sc, key, append(s.argv(run, len(args)), args...))
}

// argv is what the prelude reads, with room for n more.
func (s *Store) argv(run string, n int) []any {
	return append(make([]any, 0, 4+n), s.o.Prefix, run, s.o.RunTTL.Milliseconds(), s.side)
}

// callWith is call with arguments that begin with those of argv.
func (s *Store) callWith(ctx context.Context, sc scripted, key string, argv []any) *goredis.Cmd {
	cmd := sc().Run(ctx, s.c, []string{key}, argv...)
	switch err := cmd.Err(); {
	case s.lost(err):
		cmd.SetErr(fmt.Errorf("%w (%w)", ErrClusterNode, err))
	case err != nil:
		cmd.SetErr(s.rejected(ctx, err, argv))
	}
	return cmd
}

// lost: the server says that keys of ours are another node's. A client of a
// Cluster would have gone there.
func (s *Store) lost(err error) bool {
	if _, single := s.c.(*goredis.Client); !single || err == nil {
		return false
	}
	_, moved := goredis.IsMovedError(err)
	return moved || goredis.HasErrorPrefix(err, "Script attempted to access a non local key")
}

// failure names the operation that an error comes from and knows GONE.
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

// errReply is an answer that our own scripts never give.
var errReply = errors.New("unexpected reply from Redis")

// numbering is one of a run's two series of sequence numbers: of the records
// that it claimed and of those that it adopted.
type numbering struct {
	run     string
	adopted bool
}

// floor is the highest sequence number of a series that is known to be used;
// raise moves it.
func (s *Store) floor(n numbering) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seqs[n]
}

func (s *Store) raise(n numbering, seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seqs[n] = max(s.seqs[n], seq)
}

func (s *Store) forget(run string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seqs, numbering{run: run})
	delete(s.seqs, numbering{run: run, adopted: true})
	delete(s.turns, run)
	delete(s.ticks, run)
}

// turn numbers a run's claims, so that Redis can tell one that a network
// delivers late.
type turn struct {
	n     int64
	nonce string // of the claim whose turn it is
	tries int    // claims of it, see reply
}

// turn is the next one, or that of the last call again for the same nonce.
func (s *Store) turn(run, nonce string) turn { return s.take(run, nonce, 0) }

// claimTurn is turn for a claim, whose tries count.
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

// reply are the bounds of the reply to a claim: bytes of all records, and of the
// head of one that does not fit.
func (t turn) reply() (most, head int) {
	if t.tries > lostReplies {
		return leastReply, leastHead
	}
	return maxReply, maxHead
}

// flag is a Lua-friendly boolean: its name, or nothing.
func flag(set bool, name string) string {
	if set {
		return name
	}
	return ""
}
