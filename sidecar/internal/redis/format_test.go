package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// knowing returns an env on the same Redis whose Store knows the formats up to the given one.
func (e *env) knowing(format string) *env {
	e.t.Helper()
	other := newEnv(e.t, e.c, e.o)
	other.format = format
	return other
}

// refused fails the test unless err is a *FormatError, and returns its text.
func (e *env) refused(what string, err error) string {
	e.t.Helper()
	if _, ok := errors.AsType[*FormatError](err); !ok || Classify(err) != ClassFatal || ClassName(err) != "format" {
		e.t.Errorf("%s: %v (class %s)", what, err, ClassName(err))
		return ""
	}
	return err.Error()
}

// checkMembers ticks so that the members are checked, however short ago the last check was.
func (e *env) checkMembers(run string) TickResult {
	e.t.Helper()
	if err := e.c.Del(e.ctx, e.keys.own("watch")).Err(); err != nil {
		e.t.Fatal(err)
	}
	return e.tick(run)
}

// A missing key means format 1, and the first check of the members writes it, also after a
// FLUSHALL.
func TestTheFormatIsWrittenWhereItIsMissing(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		if got := e.get(e.keys.own("format")); got != "" {
			t.Errorf("a registration wrote the format %q", got)
		}
		if r := e.checkMembers(run); r.FormatRaised != 0 || r.FormatReplaced || e.get(e.keys.own("format")) != "1" {
			t.Errorf("first check: %+v, format %q", r, e.get(e.keys.own("format")))
		}
		if r := e.checkMembers(run); r.FormatRaised != 0 {
			t.Errorf("second check: %+v", r)
		}
		if err := e.c.Del(e.ctx, e.keys.own("format")).Err(); err != nil {
			t.Fatal(err)
		}
		if r := e.checkMembers(run); r.FormatRaised != 0 || e.get(e.keys.own("format")) != "1" {
			t.Errorf("after the key was deleted: %+v, format %q", r, e.get(e.keys.own("format")))
		}
	})
}

// The format rises to what all members know, when the last member that knows less is gone, and
// it never falls.
func TestTheFormatRisesWithTheLastMember(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		two, four := e.knowing("2"), e.knowing("4")
		// A run of a version that did not know the key has no field in its metadata.
		unaware := e.run("unaware")
		if err := e.c.HDel(e.ctx, e.keys.own("meta:"+unaware), "format").Err(); err != nil {
			t.Fatal(err)
		}
		a, b, c := e.run("a"), two.run("b"), four.run("c")
		format := func(when, want string) {
			t.Helper()
			if got := e.get(e.keys.own("format")); got != want {
				t.Errorf("%s: format %q, want %q", when, got, want)
			}
		}
		four.checkMembers(c)
		format("with members of all versions", "1")
		if err := e.Leave(e.ctx, a); err != nil {
			t.Fatal(err)
		}
		four.checkMembers(c)
		format("with a member of a version without the key", "1")
		e.expire(unaware) // a dead run is a member until it is reaped: its records have its format
		four.checkMembers(c)
		format("with a dead member", "1")
		if _, err := two.Reap(e.ctx, b, unaware, 3); err != nil {
			t.Fatal(err)
		}
		if r := two.checkMembers(b); r.FormatRaised != 2 || r.FormatReplaced {
			t.Errorf("the check that raises the format: %+v", r)
		}
		format("with members that know 2 and 4", "2")
		if err := two.Leave(e.ctx, b); err != nil {
			t.Fatal(err)
		}
		four.checkMembers(c)
		format("with a member that knows 4", "4")
		if err := four.Leave(e.ctx, c); err != nil {
			t.Fatal(err)
		}
		text := two.refused("register", two.Register(two.ctx, NewRunID("late")))
		if want := e.keys.own("format") + " says 4"; !strings.Contains(text, want) || !strings.Contains(text, "knows the formats 1 to 2") {
			t.Errorf("the error says %q", text)
		}
		if members := e.c.SMembers(e.ctx, e.keys.own("runs")).Val(); len(members) > 0 {
			t.Errorf("members after the refusal: %v", members)
		}
		four.checkMembers(four.run("d"))
		format("after all", "4")
	})
}

// Every operation of an operator that writes, and the tick of a member, refuse an unknown
// format, and change nothing.
func TestAnUnknownFormatIsRefused(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("r")
		claimed := e.claim(run, 1)[0]
		e.report(run, Report{Delivery: claimed.Delivery, RecordSHA: RecordSHA(claimed.Record), Dead: &DeadLetter{Reason: "attempts"}})
		if err := e.Pause(e.ctx, run, "a test"); err != nil {
			t.Fatal(err)
		}
		e.checkMembers(run)
		for value, want := range map[string]string{"2": "says 2", "1e3": "holds no format", "": "holds no format", "-1": "holds no format", "0": "holds no format", "9999999999999999999": "holds no format"} {
			e.set(e.keys.own("format"), value)
			before := e.dump()
			for name, op := range map[string]func() error{
				"register": func() error { return e.Register(e.ctx, NewRunID("other")) },
				"requeue":  func() error { _, err := e.Requeue(e.ctx, claimed.Delivery, true); return err },
				"drop":     func() error { _, err := e.Drop(e.ctx, claimed.Delivery); return err },
				"pause":    func() error { return e.Pause(e.ctx, fleet.AllRuns, "a test") },
				"unpause":  func() error { return e.Unpause(e.ctx, run) },
				"command":  func() error { return e.SendCommand(e.ctx, run, fleet.Command{Action: fleet.Drain}) },
			} {
				if text := e.refused(name, op()); !strings.Contains(text, want) {
					t.Errorf("%s with the format %q says %q", name, value, text)
				}
			}
			if value == "2" {
				_, err := e.Tick(e.ctx, run, nil, "")
				if text := e.refused("tick", err); !strings.Contains(text, want) {
					t.Errorf("tick with the format %q says %q", value, text)
				}
			}
			same(t, "keys", e.dump(), before)
		}
	})
}

// dump returns the keys of the prefix with their values, as text.
func (e *env) dump() (all []string) {
	e.t.Helper()
	for _, key := range e.keysUnder(":*") {
		var value any
		switch kind := e.c.Type(e.ctx, key).Val(); kind {
		case "string":
			value = e.get(key)
		case "list":
			value = e.c.LRange(e.ctx, key, 0, -1).Val()
		case "set":
			value = e.c.SMembers(e.ctx, key).Val()
		case "zset":
			value = e.c.ZRangeWithScores(e.ctx, key, 0, -1).Val()
		case "hash":
			value = e.hash(key)
		default:
			e.t.Fatalf("%s is a %s", key, kind)
		}
		all = append(all, fmt.Sprint(key, " ", value))
	}
	return all
}

// A member repairs a value that is no format, since it knows what the members know: one stray
// write must not end a fleet.
func TestAMemberRepairsTheFormat(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		key := e.keys.own("format")
		run := e.run("w")
		for name, spoil := range map[string]func() error{
			"another type": func() error { return e.c.LPush(e.ctx, key, "1").Err() },
			"no number":    func() error { return e.c.Set(e.ctx, key, "1.5\r\n", 0).Err() },
			"empty":        func() error { return e.c.Set(e.ctx, key, "", 0).Err() },
		} {
			if err := errors.Join(e.c.Del(e.ctx, key).Err(), spoil()); err != nil {
				t.Fatal(err)
			}
			e.refused(name, e.Register(e.ctx, NewRunID("other")))
			if stored, known, err := e.Format(e.ctx); stored != 0 || known != 1 || err != nil {
				t.Errorf("%s: format %d, known %d, %v", name, stored, known, err)
			}
			if r := e.checkMembers(run); r.FormatRaised != 1 || !r.FormatReplaced || e.get(key) != "1" {
				t.Errorf("%s: %+v, format %q", name, r, e.get(key))
			}
			if stored, _, err := e.Format(e.ctx); stored != 1 || err != nil {
				t.Errorf("%s: format %d after the repair, %v", name, stored, err)
			}
		}
	})
}

// A tick that does not check the members says of no format that it has replaced it.
func TestOnlyACheckReplacesTheFormat(t *testing.T) {
	k := newTicker(t)
	self := k.run("self")
	k.at(self, 0)
	k.set(k.keys.own("format"), "spoiled")
	reply := k.at(self, 499)
	same(t, "between two checks", fmt.Sprint(reply[tickRaised], reply[tickReplaced]), "0 0")
	reply = k.at(self, 500)
	same(t, "at a check", fmt.Sprint(reply[tickRaised], reply[tickReplaced]), "1 1")
}

// An error that is not about the type of the key is not taken for another format.
func TestTheFormatMayNotBeRead(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		_, e := alone(t)
		formatMayNotBeRead(t, e, func() {
			if err := e.c.ACLSetUser(e.ctx, "default", "-get").Err(); err != nil {
				t.Fatal(err)
			}
		})
	})
	t.Run("model", func(t *testing.T) {
		e := onModel(t, Options{})
		formatMayNotBeRead(t, e, func() { e.refuse("GET", "") })
	})
}

func formatMayNotBeRead(t *testing.T, e *env, refuse func()) {
	run := e.run("w")
	refuse()
	if _, err := e.Tick(e.ctx, run, nil, ""); ClassName(err) != "noperm" {
		t.Errorf("%v (class %s)", err, ClassName(err))
	}
}

// A member that knows less than the stored format does not lower it, and a format that is
// stored already is not told of as a new one.
func TestTheFormatNeverFalls(t *testing.T) {
	for knows, want := range map[string]int{"": 0, "2": 0, "3": 0, "4": 4, "none stored": 4} {
		t.Run(knows, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				four := e.knowing("4")
				run, other := four.run("w"), four.run("o")
				switch knows {
				case "none stored":
				case "":
					e.c.HDel(e.ctx, e.keys.own("meta:"+other), "format")
				default:
					e.c.HSet(e.ctx, e.keys.own("meta:"+other), "format", knows)
				}
				if knows != "none stored" {
					e.set(e.keys.own("format"), "3")
				}
				same(t, "raised to", four.checkMembers(run).FormatRaised, want)
				same(t, "stored", e.get(e.keys.own("format")), fmt.Sprint(max(want, 3)))
			})
		})
	}
}

// A member whose entry cannot be read counts as one of the first version, and a format that is
// above what a member knows, as after a change by hand, stays.
func TestTheFormatStaysWhereAMemberMayNotKnowMore(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		three := e.knowing("3")
		other, self := e.run("other"), three.run("self")
		key, meta := e.keys.own("format"), e.keys.own("meta:"+other)
		for name, spoil := range map[string]func() error{
			"a number below 1": func() error { return e.c.HSet(e.ctx, meta, "format", "-5").Err() },
			"no number":        func() error { return e.c.HSet(e.ctx, meta, "format", "two").Err() },
			"another type":     func() error { return e.c.Set(e.ctx, meta, "3", 0).Err() },
			"no entry":         func() error { return nil },
		} {
			for stored, want := range map[string]string{"": "1", "1": "1", "2": "2", "bad": "1"} {
				if err := errors.Join(e.c.Del(e.ctx, meta, key).Err(), spoil()); err != nil {
					t.Fatal(err)
				}
				if stored != "" {
					e.set(key, stored)
				}
				r := three.checkMembers(self)
				if got := e.get(key); got != want || r.FormatReplaced != (stored == "bad") || (r.FormatRaised > 0) != (stored == "bad") {
					t.Errorf("%s, format %q: %q, want %q; %+v", name, stored, got, want, r)
				}
			}
		}
	})
}

// A format that may not be read is not taken for an unreadable one, which a tick replaces.
func TestAFormatWithoutPermissionIsNotReplaced(t *testing.T) {
	e := onRedis(t, Options{})
	run := e.run("w")
	user := NewRunID("user")
	if err := e.c.Do(e.ctx, "ACL", "SETUSER", user, "on", "nopass", "~*", "&*", "+@all", "-get").Err(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.c.Do(e.ctx, "ACL", "DELUSER", user).Err(); err != nil {
			t.Error(err)
		}
	}()
	o := *e.c.Options()
	o.Username, o.Password = user, "any"
	c := goredis.NewClient(&o)
	defer func() { _ = c.Close() }()
	without := newEnv(t, c, e.o)
	for name, op := range map[string]func() error{
		"register": func() error { return without.Register(e.ctx, NewRunID("other")) },
		"tick":     func() error { _, err := without.Tick(e.ctx, run, nil, ""); return err },
	} {
		if err := op(); ClassName(err) != "noperm" {
			t.Errorf("%s: %v (class %s), want noperm", name, err, ClassName(err))
		}
	}
	if got := e.get(e.keys.own("format")); got != "" {
		t.Errorf("the format %q was written", got)
	}
}
