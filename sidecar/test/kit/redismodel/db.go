package redismodel

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// DB is a database. It is not safe for concurrent use; [Server] is.
type DB struct {
	clock   func() time.Time
	keys    map[string]*value
	epoch   uint64
	scripts map[string]string // by SHA-1
	config  map[string]string

	now    int64 // ms, for the command that runs
	micros int64 // of the millisecond, for TIME
	expire int64 // ms: the earliest time at which a key expires; 0 if none does
	lua    interpreter

	memoryFull bool
	noWrites   string // the error of commands that write
	noCommands string // the error of all commands

	// Observe, if it is set, is told of each command that was run without an error, and
	// whether a script has sent it. It must not keep the words or use the database.
	Observe func(args []string, script bool)

	// Rewrite, if it is set, changes the text of each script that is loaded, which keeps its
	// name: a mistake that a test plants.
	Rewrite func(source string) string

	// Refuse, if it is set, returns the error of a command that is refused, as by an access
	// rule, and "" for any other one. It is called once for each command, also of a script, and
	// must not keep the words or use the database.
	Refuse func(args []string) string

	publish func(channel, message string) int
	nested  bool // a script runs
	writes  bool // the script that runs has written
}

// epochs makes epochs that are unique in the process, so that databases can exchange
// snapshots.
var epochs atomic.Uint64

// New returns an empty database whose time is that of clock.
func New(clock func() time.Time) *DB {
	return &DB{
		clock: clock, keys: make(map[string]*value), epoch: epochs.Add(1), scripts: make(map[string]string),
		config:  map[string]string{"proto-max-bulk-len": "536870912", "maxmemory-policy": "noeviction", "maxmemory": "0"},
		publish: func(string, string) int { return 0 },
	}
}

// SetMemoryFull refuses commands that need memory, as Redis does above maxmemory.
func (db *DB) SetMemoryFull(full bool) { db.memoryFull = full }

// RefuseWrites makes every command that writes fail with an error, such as READONLY,
// MISCONF or NOREPLICAS with its text; "" ends that.
func (db *DB) RefuseWrites(reply string) { db.noWrites = reply }

// RefuseAll makes every command fail with an error, such as LOADING; "" ends that.
func (db *DB) RefuseAll(reply string) { db.noCommands = reply }

// ReadOnly is the error of a replica that gets a write.
const ReadOnly = "READONLY You can't write against a read only replica."

type command struct {
	name  string
	arity int // as in Redis: with the name; negative for a minimum
	flags flags
	run   func(db *DB, args []string) Reply
}

type flags uint8

const (
	writes flags = 1 << iota // changes the database
	grows                    // needs memory
	noScript
)

var commands map[string]*command

func init() {
	commands = make(map[string]*command)
	for _, list := range [][]command{keyCommands, stringCommands, listCommands, hashCommands, setCommands, sortedSetCommands, serverCommands} {
		for i := range list {
			commands[list[i].name] = &list[i]
		}
	}
}

func lookup(name string) *command {
	if c := commands[name]; c != nil {
		return c
	}
	return commands[strings.ToUpper(name)]
}

// Do runs a command and returns its reply. A blocking command returns at once.
func (db *DB) Do(args ...string) Reply {
	r := db.do(args)
	if r.is(block) {
		return nilReply
	}
	return r
}

// do is Do, with a reply of kind block for a command that has to wait.
func (db *DB) do(args []string) Reply {
	db.refresh()
	c, refusal := db.check(args)
	if c == nil {
		return refusal
	}
	r := c.run(db, args)
	db.observed(args, r, false)
	return r
}

func (db *DB) observed(args []string, r Reply, script bool) {
	if db.Observe != nil && !r.is(Error) {
		db.Observe(args, script)
	}
}

// check finds a command and returns nil and an error for one that cannot run.
func (db *DB) check(args []string) (*command, Reply) {
	c := lookup(args[0])
	switch {
	case c == nil:
		var b strings.Builder
		for _, a := range args[1:] {
			b.WriteString("'" + a[:min(len(a), 128)] + "' ")
		}
		return nil, failed("ERR unknown command '" + args[0][:min(len(args[0]), 128)] + "', with args beginning with: " + b.String())
	case c.arity >= 0 && len(args) != c.arity || len(args) < -c.arity:
		return nil, arityError(strings.ToLower(c.name))
	case db.noCommands != "":
		return nil, failed(db.noCommands)
	}
	if db.Refuse != nil {
		if text := db.Refuse(args); text != "" {
			return nil, failed(text)
		}
	}
	switch {
	case c.flags&writes != 0 && db.noWrites != "":
		return nil, failed(db.noWrites)
	case c.flags&grows != 0 && db.memoryFull:
		return nil, failed(errMemoryFull)
	}
	return c, Reply{}
}

// fromScript runs a command for a script.
func (db *DB) fromScript(args []string) Reply {
	c := lookup(args[0])
	switch {
	case c == nil:
		return failed("ERR Unknown Redis command called from script")
	case c.arity >= 0 && len(args) != c.arity || len(args) < -c.arity:
		return failed("ERR Wrong number of args calling Redis command from script")
	case c.flags&noScript != 0:
		return failed("ERR This Redis command is not allowed from script")
	case db.Refuse != nil && db.Refuse(args) != "":
		return failed(db.Refuse(args))
	case c.flags&writes != 0 && db.noWrites != "":
		return failed(db.noWrites)
	case c.flags&grows != 0 && db.memoryFull && !db.writes:
		return failed(errMemoryFull)
	}
	if c.flags&writes != 0 {
		db.writes = true
	}
	r := c.run(db, args)
	db.observed(args, r, true)
	if r.is(block) {
		return nilReply
	}
	return r
}

// refresh reads the clock and removes the keys that have expired. Like Redis it keeps a
// key in the very millisecond of its expiry.
func (db *DB) refresh() {
	t := db.clock()
	db.now, db.micros = t.UnixMilli(), int64(t.Nanosecond()/1000%1000)
	if db.expire == 0 || db.now <= db.expire {
		return
	}
	db.expire = 0
	for key, v := range db.keys {
		switch {
		case v.expires == 0:
		case v.expires < db.now:
			delete(db.keys, key)
		case db.expire == 0 || v.expires < db.expire:
			db.expire = v.expires
		}
	}
}

func (db *DB) setExpiry(v *value, at int64) {
	v.expires = at
	if at != 0 && (db.expire == 0 || at < db.expire) {
		db.expire = at
	}
}

// read returns the value of a key, nil for a missing key. wrong is true for another type.
func (db *DB) read(key string, kind Type) (v *value, wrong bool) {
	v = db.keys[key]
	return v, v != nil && v.kind != kind
}

// own returns the value of an existing key for a change.
func (db *DB) own(key string) *value {
	v := db.keys[key]
	if v.epoch != db.epoch {
		v = v.clone(db.epoch)
		db.keys[key] = v
	}
	return v
}

// removeFrom removes elements of a hash, a set or a sorted set, and answers with their
// number. The arguments are those of HDEL, SREM and ZREM.
func (db *DB) removeFrom(kind Type, args []string) Reply {
	v, wrong := db.read(args[1], kind)
	switch {
	case wrong:
		return failed(errWrongType)
	case v == nil:
		return integer(0)
	}
	n := 0
	for _, name := range args[2:] {
		if v.has(name) {
			v = db.own(args[1])
			v.drop(name)
			n++
		}
	}
	db.settle(args[1])
	return integer(n)
}

// edit returns the value of a key for a change and makes a missing one.
func (db *DB) edit(key string, kind Type) *value {
	if db.keys[key] == nil {
		db.keys[key] = &value{kind: kind, epoch: db.epoch}
	}
	return db.own(key)
}

// settle removes a key whose value has become empty.
func (db *DB) settle(key string) {
	if v := db.keys[key]; v != nil && v.empty() {
		delete(db.keys, key)
	}
}

// Keys returns the names of all keys, sorted.
func (db *DB) Keys() []string {
	db.refresh()
	return slices.Sorted(maps.Keys(db.keys))
}
