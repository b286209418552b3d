package redis

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// asking is a channel in use: a delivery in flight, its session, and a lane.
type asking struct {
	*Channel
	e        *env
	session  string
	delivery string
	turn     Turn
}

// ask claims a record whose task then asks. Sessions are named after the test's
// prefix: channel keys are shared by all that use the same Redis.
func (e *env) ask(session string) *asking {
	e.t.Helper()
	delivery := e.claimOne(e.run("w"), "r").Delivery
	session = e.o.Prefix + session
	c, err := e.Channel(session, delivery)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		keys, err := c.Keys(context.WithoutCancel(e.ctx), 1<<20)
		if err != nil {
			return // the test has taken the server away
		}
		for _, key := range keys {
			e.c.Del(context.WithoutCancel(e.ctx), c.prefix+key)
		}
	})
	return &asking{Channel: c, e: e, session: session, delivery: delivery, turn: Turn{Lane: 3}}
}

// next is the turn of a new change.
func (a *asking) next() Turn {
	a.turn.N++
	return a.turn
}

// key is a key of the channel as Graflow names it in Redis.
func (a *asking) key(key string) string { return "graflow:channel:" + a.session + ":" + key }

func (a *asking) mustSet(key, value string) {
	a.e.t.Helper()
	if err := a.Set(a.e.ctx, a.next(), key, []byte(value), 0); err != nil {
		a.e.t.Fatal(err)
	}
}

// got reads one key: its text, or what it is instead.
func (a *asking) got(key string) string {
	a.e.t.Helper()
	values, err := a.Get(a.e.ctx, key)
	if err != nil {
		a.e.t.Fatal(err)
	}
	switch v := values[0]; {
	case v.WrongType:
		return "(another kind)"
	case !v.Found:
		return "(none)"
	default:
		return string(v.Text)
	}
}

// ok fails the test on an error.
func ok[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestChannelValues(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		for _, text := range []string{
			`1`, `1.0`, `NaN`, `[Infinity, -Infinity]`, `123456789012345678901234567890`, `null`, `""`, `"ä\ud800"`,
			`{"a": [1, 2.50, {"b": null}]}`, strings.Repeat(`"x" `, 1<<18), "", "no JSON \x00\xff",
		} {
			a.mustSet("k", text)
			same(t, "raw", e.get(a.key("k")), text)
			same(t, "got", a.got("k"), text)
		}
		same(t, "absent", a.got("other"), "(none)")
		same(t, "exists", ok[bool](t)(a.Exists(e.ctx, "k")), true)
		same(t, "no ttl", e.c.TTL(e.ctx, a.key("k")).Val(), time.Duration(-1))
		same(t, "deleted", ok[bool](t)(a.Delete(e.ctx, a.next(), "k")), true)
		same(t, "deleted again", ok[bool](t)(a.Delete(e.ctx, a.next(), "k")), false)
		same(t, "exists", ok[bool](t)(a.Exists(e.ctx, "k")), false)

		if err := a.Set(e.ctx, a.next(), "k", []byte("1"), 1500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if ttl := e.c.PTTL(e.ctx, a.key("k")).Val(); ttl <= 0 || ttl > 1500*time.Millisecond {
			t.Errorf("ttl %v", ttl)
		}
		a.mustSet("k", "2")
		same(t, "ttl after it was overwritten", e.c.TTL(e.ctx, a.key("k")).Val(), time.Duration(-1))
	})
}

// A change that needs no memory may be the first one of its lane.
func TestChannelBeginsWithADelete(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		same(t, "deleted", ok[bool](t)(a.Delete(e.ctx, a.next(), "k")), false)
	})
}

func TestChannelSeveralGets(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		a.mustSet("a", "1")
		a.mustSet("b", `"two"`)
		ok[int64](t)(a.Append(e.ctx, a.next(), "list", []byte("1"), 0))
		values := ok[[]Value](t)(a.Get(e.ctx, "a", "gone", "list", "b", "a"))
		same(t, "values", values, []Value{
			{Found: true, Text: []byte("1")},
			{},
			{Found: true, WrongType: true},
			{Found: true, Text: []byte(`"two"`)},
			{Found: true, Text: []byte("1")},
		})
		same(t, "none", len(ok[[]Value](t)(a.Get(e.ctx))), 0)
	})
}

func TestChannelLists(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		same(t, "append", ok[int64](t)(a.Append(e.ctx, a.next(), "l", []byte("1"), 0)), 1)
		same(t, "append", ok[int64](t)(a.Append(e.ctx, a.next(), "l", []byte("2"), 0)), 2)
		same(t, "prepend", ok[int64](t)(a.Prepend(e.ctx, a.next(), "l", []byte("0"), time.Minute)), 3)
		same(t, "list", e.c.LRange(e.ctx, a.key("l"), 0, -1).Val(), []string{"0", "1", "2"})
		if ttl := e.c.TTL(e.ctx, a.key("l")).Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("ttl %v", ttl)
		}
		ok[int64](t)(a.Append(e.ctx, a.next(), "l", []byte("3"), 0))
		if ttl := e.c.TTL(e.ctx, a.key("l")).Val(); ttl <= 0 {
			t.Errorf("ttl %v after an append with none: EXPIRE is not undone by RPUSH", ttl)
		}
	})
}

func TestChannelAdd(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		for _, c := range []struct {
			before, amount, want string
			err                  error
		}{
			{"", "1", "1", nil},
			{"41", "1", "42", nil},
			{"41", "-1.5", "39.5", nil},
			{"1.0", "1", "2", nil},
			{"0.1", "1e2", "100.1", nil},
			{`"one"`, "1", "", ErrNumber},
			{"{}", "1", "", ErrNumber},
			{"1", "many", "", ErrNumber},
			{"1", "", "", ErrNumber},
		} {
			e.c.Del(e.ctx, a.key("n"))
			if c.before != "" {
				a.mustSet("n", c.before)
			}
			sum, err := a.Add(e.ctx, a.next(), "n", c.amount)
			if sum != c.want || !errors.Is(err, c.err) {
				t.Errorf("%s + %s: got %q, %v; want %q, %v", c.before, c.amount, sum, err, c.want, c.err)
			}
			if c.err != nil {
				same(t, "left", e.get(a.key("n")), c.before)
			}
		}
	})
}

// A sum that is no number is the request's fault; a refused command is not.
func TestChannelAddRefused(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		_, e := alone(t)
		channelAddRefused(t, e, func(command string) {
			if err := e.c.ACLSetUser(e.ctx, "default", "+@all", "-"+command).Err(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("model", func(t *testing.T) {
		e := onModel(t, Options{})
		channelAddRefused(t, e, func(command string) { e.refuse(strings.ToUpper(command), "") })
	})
}

func channelAddRefused(t *testing.T, e *env, refuse func(command string)) {
	a := e.ask("s")
	const most = "1.1e4932" // of the largest number that Redis adds
	a.mustSet("n", most)
	if _, err := a.Add(e.ctx, a.next(), "n", most); !errors.Is(err, ErrNumber) {
		t.Errorf("an infinite sum: %v", err)
	}
	same(t, "left", e.get(a.key("n")), most)
	for _, command := range []string{"incrbyfloat", "rpush"} {
		refuse(command)
		err := error(nil)
		if command == "incrbyfloat" {
			_, err = a.Add(e.ctx, a.next(), "m", "1")
		} else {
			_, err = a.Append(e.ctx, a.next(), "l", []byte("1"), 0)
		}
		if err == nil || errors.Is(err, ErrNumber) || errors.Is(err, ErrType) {
			t.Errorf("without %s: %v", command, err)
		}
	}
}

// A key of another kind is the request's fault: nothing is changed, and the next
// request is served.
func TestChannelTypes(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		a.mustSet("value", "1")
		ok[int64](t)(a.Append(e.ctx, a.next(), "list", []byte("1"), 0))
		if err := e.c.RPush(e.ctx, a.key("lock:value"), "x").Err(); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func() error{
			"append":  func() error { _, err := a.Append(e.ctx, a.next(), "value", []byte("1"), time.Second); return err },
			"prepend": func() error { _, err := a.Prepend(e.ctx, a.next(), "value", []byte("1"), time.Second); return err },
			"add":     func() error { _, err := a.Add(e.ctx, a.next(), "list", "1"); return err },
			"unlock":  func() error { _, err := a.Unlock(e.ctx, a.next(), "value", "t"); return err },
		} {
			if err := change(); !errors.Is(err, ErrType) {
				t.Errorf("%s: %v", name, err)
			}
		}
		same(t, "value", a.got("value"), "1")
		same(t, "no ttl", e.c.TTL(e.ctx, a.key("value")).Val(), time.Duration(-1))
		same(t, "list", a.got("list"), "(another kind)")
		same(t, "a lock that is a list is not to be had", ok[bool](t)(a.TryLock(e.ctx, a.next(), "value", "t", time.Second)), false)
		a.mustSet("list", "2") // as Graflow does
		same(t, "list", a.got("list"), "2")
	})
}

// Keys lists the keys of one session, whatever its name looks like in a pattern.
func TestChannelKeys(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		sessions := []string{`s`, `s*`, `s?`, `[st]`, `s\`, `s2`, `s[`, `s]`, `s^-`}
		for i, session := range sessions {
			a := e.ask(session)
			for _, key := range []string{"b", "a", "*", "", "../../x", ":", "lock:a", "ключ"}[:8-i%2] {
				a.mustSet(key, "1")
			}
		}
		for i, session := range sessions {
			a := e.ask(session)
			want := []string{"", "*", "../../x", ":", "a", "b", "lock:a", "ключ"}[:8-i%2]
			same(t, session, ok[[]string](t)(a.Keys(e.ctx, 1<<20)), want)
			if _, err := a.Keys(e.ctx, 3); !errors.Is(err, ErrTooMuch) {
				t.Errorf("a limit of 3 bytes: %v", err)
			}
		}
	})
}

// No key leads out of its session.
func TestChannelIsolation(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		mine, other := e.ask("mine"), e.ask("other")
		other.mustSet("secret", "1")
		for _, key := range []string{
			"../" + other.session + ":secret", "*", "?", ":" + other.session + ":secret", other.session + ":secret",
			"\x00" + other.session + ":secret", "graflow:channel:" + other.session + ":secret", "secret",
		} {
			same(t, key, mine.got(key), "(none)")
			mine.mustSet(key, "2")
			ok[bool](t)(mine.Delete(e.ctx, mine.next(), key))
		}
		same(t, "secret", other.got("secret"), "1")
		same(t, "keys", ok[[]string](t)(mine.Keys(e.ctx, 1<<20)), []string{})
	})
}

func TestChannelLock(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a, b := e.ask("s"), e.ask("s")
		same(t, "taken", ok[bool](t)(a.TryLock(e.ctx, a.next(), "k", "one", time.Minute)), true)
		same(t, "in Redis", e.get(a.key("lock:k")), "one")
		same(t, "taken twice", ok[bool](t)(b.TryLock(e.ctx, b.next(), "k", "two", time.Minute)), false)
		same(t, "another's token", ok[bool](t)(b.Unlock(e.ctx, b.next(), "k", "two")), false)
		same(t, "freed", ok[bool](t)(a.Unlock(e.ctx, a.next(), "k", "one")), true)
		same(t, "freed twice", ok[bool](t)(a.Unlock(e.ctx, a.next(), "k", "one")), false)
		same(t, "free", ok[bool](t)(b.TryLock(e.ctx, b.next(), "k", "two", 50*time.Millisecond)), true)
		if ttl := e.c.PTTL(e.ctx, b.key("lock:k")).Val(); ttl <= 0 || ttl > 50*time.Millisecond {
			t.Errorf("ttl %v", ttl)
		}
		if one, two := NewLockToken(), NewLockToken(); len(one) != 32 || one == two {
			t.Error("tokens are not what redis-py's are")
		}
	})
}

// A change that is sent again, because its reply was lost, is not made again and
// answers the same; one that comes too late is not made at all.
func TestChannelChangesOnce(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		changes := []struct {
			name string
			do   func(turn Turn) (any, error)
		}{
			{"append", func(turn Turn) (any, error) { return a.Append(e.ctx, turn, "l", []byte("1"), 0) }},
			{"add", func(turn Turn) (any, error) { return a.Add(e.ctx, turn, "n", "1.5") }},
			{"add to a list", func(turn Turn) (any, error) { return a.Add(e.ctx, turn, "l", "1") }},
			{"set", func(turn Turn) (any, error) { return nil, a.Set(e.ctx, turn, "k", []byte("1"), 0) }},
			{"delete", func(turn Turn) (any, error) { return a.Delete(e.ctx, turn, "k") }},
			{"lock", func(turn Turn) (any, error) { return a.TryLock(e.ctx, turn, "k", "t", time.Minute) }},
			{"unlock", func(turn Turn) (any, error) { return a.Unlock(e.ctx, turn, "k", "t") }},
			{"enqueue", func(turn Turn) (any, error) { return nil, e.Enqueue(e.ctx, turn, a.delivery, []byte("record")) }},
		}
		for _, c := range changes {
			turn := a.next()
			first, err := c.do(turn)
			again, err2 := c.do(turn)
			if first != again || !errors.Is(err2, err) {
				t.Errorf("%s: first %v, %v, then %v, %v", c.name, first, err, again, err2)
			}
			later := a.next()
			a.turn = later
			if err := a.Set(e.ctx, later, "later", []byte("1"), 0); err != nil {
				t.Fatal(err)
			}
			if _, err := c.do(turn); !errors.Is(err, errOvertaken) {
				t.Errorf("%s when a later one was made: %v", c.name, err)
			}
		}
		same(t, "list", e.c.LRange(e.ctx, a.key("l"), 0, -1).Val(), []string{"1"})
		same(t, "sum", a.got("n"), "1.5")
		same(t, "queue", e.queue(), []string{"record"})
		if ttl := e.c.TTL(e.ctx, e.keys.asked(a.run)).Val(); ttl <= 0 {
			t.Errorf("the lanes are kept for %v", ttl)
		}
	})
}

// A task that has lost its delivery changes nothing any more: another sidecar runs it.
func TestChannelAfterTheDelivery(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		ok[bool](t)(a.TryLock(e.ctx, a.next(), "k", "t", time.Minute))
		e.die(e.run("o"), a.run, 3)
		queue := e.queue()
		for name, change := range map[string]func() error{
			"set":     func() error { return a.Set(e.ctx, a.next(), "k", []byte("1"), 0) },
			"delete":  func() error { _, err := a.Delete(e.ctx, a.next(), "k"); return err },
			"append":  func() error { _, err := a.Append(e.ctx, a.next(), "k", []byte("1"), 0); return err },
			"add":     func() error { _, err := a.Add(e.ctx, a.next(), "k", "1"); return err },
			"lock":    func() error { _, err := a.TryLock(e.ctx, a.next(), "x", "t", time.Minute); return err },
			"enqueue": func() error { return e.Enqueue(e.ctx, a.next(), a.delivery, []byte("record")) },
		} {
			if err := change(); !errors.Is(err, ErrEnded) {
				t.Errorf("%s: %v", name, err)
			}
		}
		same(t, "keys", ok[[]string](t)(a.Keys(e.ctx, 1<<20)), []string{"lock:k"})
		same(t, "queue", e.queue(), queue)
		same(t, "its lock can be freed", ok[bool](t)(a.Unlock(e.ctx, a.next(), "k", "t")), true)
	})
}

func TestChannelSetWithAnEnd(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		if err := a.Set(e.ctx, a.next(), "k", []byte("value"), time.Minute); err != nil {
			t.Fatal(err)
		}
		same(t, "value", e.get(a.key("k")), "value")
		if ttl := e.c.PTTL(e.ctx, a.key("k")).Val(); ttl <= 50*time.Second || ttl > time.Minute {
			t.Errorf("ttl %v", ttl)
		}
	})
}

// The results of lanes are kept for a day after the last change.
func TestChannelLanesExpire(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a := e.ask("s")
		a.mustSet("k", "1")
		if ttl := e.c.TTL(e.ctx, e.keys.asked(a.run)).Val(); ttl < 23*time.Hour || ttl > 24*time.Hour {
			t.Errorf("after a change that needs memory the lanes are kept for %v", ttl)
		}
	})
}

func TestChannelsAreNotInACluster(t *testing.T) {
	c := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	s, err := New(c, Options{Prefix: "{graflow}"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Channel("s", "run.1"); !errors.Is(err, ErrNoChannels) {
		t.Errorf("got %v", err)
	}
}

// A Redis that takes no writes, or has no memory, takes nothing from a worker;
// what frees memory passes. (A report passes in any case.)
func TestChannelWhileRedisRefuses(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		_, e := alone(t)
		channelWhileRedisRefuses(t, e, func(full bool) {
			e.config("maxmemory", map[bool]string{false: "0", true: "1"}[full])
		}, func() { e.c.ReplicaOf(e.ctx, "127.0.0.1", "1") })
	})
	t.Run("model", func(t *testing.T) {
		e := onModel(t, Options{})
		channelWhileRedisRefuses(t, e, e.db.SetMemoryFull, func() { e.db.RefuseWrites(redismodel.ReadOnly) })
	})
}

func channelWhileRedisRefuses(t *testing.T, e *env, memoryFull func(bool), readOnly func()) {
	a := e.ask("s")
	a.mustSet("k", "1")
	memoryFull(true)
	for name, change := range map[string]func() error{
		"set":     func() error { return a.Set(e.ctx, a.next(), "new", []byte("1"), 0) },
		"append":  func() error { _, err := a.Append(e.ctx, a.next(), "new", []byte("1"), 0); return err },
		"lock":    func() error { _, err := a.TryLock(e.ctx, a.next(), "new", "t", time.Minute); return err },
		"enqueue": func() error { return e.Enqueue(e.ctx, a.next(), a.delivery, []byte("record")) },
	} {
		if err := change(); ClassName(err) != "oom" || Classify(err) != ClassTransient {
			t.Errorf("%s with no memory: %v", name, err)
		}
	}
	same(t, "delete with no memory", ok[bool](t)(a.Delete(e.ctx, a.next(), "k")), true)
	same(t, "unlock with no memory", ok[bool](t)(a.Unlock(e.ctx, a.next(), "k", "another's")), false)
	memoryFull(false)
	same(t, "keys", ok[[]string](t)(a.Keys(e.ctx, 1<<20)), []string{})
	same(t, "queue", e.queue(), []string{})

	readOnly()
	if err := a.Set(e.ctx, a.next(), "k", []byte("1"), 0); ClassName(err) != "readonly" {
		t.Errorf("set on a replica: %v", err)
	}
	if _, err := a.Delete(e.ctx, a.next(), "k"); ClassName(err) != "readonly" {
		t.Errorf("delete on a replica: %v", err)
	}
}
