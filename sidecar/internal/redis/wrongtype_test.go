package redis

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// snapshot returns the contents of all keys of the prefix, by key.
func (e *env) snapshot() map[string]string {
	e.t.Helper()
	all := map[string]string{}
	for _, key := range e.keysUnder("*") {
		var value any
		var err error
		switch kind := e.c.Type(e.ctx, key).Val(); kind {
		case "string":
			value, err = e.c.Get(e.ctx, key).Result()
		case "list":
			value, err = e.c.LRange(e.ctx, key, 0, -1).Result()
		case "hash":
			value, err = e.c.HGetAll(e.ctx, key).Result()
		case "set":
			var members []string
			members, err = e.c.SMembers(e.ctx, key).Result()
			slices.Sort(members)
			value = members
		case "zset":
			value, err = e.c.ZRangeWithScores(e.ctx, key, 0, -1).Result()
		default:
			e.t.Fatalf("%s is a %q", key, kind)
		}
		if err != nil {
			e.t.Fatal(err)
		}
		all[key] = fmt.Sprint(value)
	}
	return all
}

// A key of a run that may not be read is not taken for one of another type, which would be
// skipped or deleted.
func TestAKeyWithoutPermissionIsNotOfAnotherType(t *testing.T) {
	for _, key := range []string{"inflight:", "meta:"} {
		t.Run(key, func(t *testing.T) {
			e := onModel(t, Options{})
			run := e.run("w")
			e.claimOne(run, "r")
			before := e.snapshot()
			e.refuse("HLEN", e.keys.own(key+run))
			if err := e.Leave(e.ctx, run); ClassName(err) != "noperm" {
				t.Errorf("%v (class %s)", err, ClassName(err))
			}
			e.db.Refuse = nil
			if _, is := before[e.keys.own(key+run)]; !is || e.snapshot()[e.keys.own(key+run)] != before[e.keys.own(key+run)] {
				t.Errorf("%s has changed", key)
			}
		})
	}
}

// wrongTypeCases are operations that would change something, and the keys whose other type
// ends them.
var wrongTypeCases = []struct {
	name string
	keys string // RUN and OTHER are the runs
	call func(e *env, run, other string) func() error
}{
	{
		"claim", "queue sidecar:inbox:RUN sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock",
		func(e *env, run, _ string) func() error {
			e.push("a")
			return func() error { _, err := e.Claim(e.ctx, run, "n", 2); return err }
		},
	},
	{
		"claim routed", "queue sidecar:inbox:RUN sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock sidecar:unrouted",
		func(e *env, run, _ string) func() error {
			e.push(jobs("x", "a")...)
			return func() error {
				_, err := e.ClaimRouted(e.ctx, run, "n", KindDemand{abKinds, []int{1, 1}, keep})
				return err
			}
		},
	},
	{
		"release", "queue sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock",
		func(e *env, run, _ string) func() error {
			a, b := e.claimOne(run, "a"), e.claimOne(run, "b")
			return func() error {
				_, err := e.Release(e.ctx, run, append(back(b), lost(a, false, 3)))
				return err
			}
		},
	},
	{
		"delay", "queue sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock sidecar:delayed sidecar:delayed:records sidecar:isolated",
		func(e *env, run, _ string) func() error {
			a, b := e.suspect(run, "a", "2:run"), e.claimOne(run, "b")
			return func() error {
				_, err := e.Delay(e.ctx, run, []Delay{
					{Delivery: b.Delivery, Count: true, Record: b.Record},
					{Delivery: a.Delivery, After: time.Second, Isolate: true, Record: a.Record},
				})
				return err
			}
		},
	},
	{
		"reconcile", "queue sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock",
		func(e *env, run, _ string) func() error {
			a := e.claimOne(run, "a")
			return func() error { _, err := e.Reconcile(e.ctx, run, a.Seq, nil); return err }
		},
	},
	{
		"reap", "queue sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock",
		func(e *env, run, other string) func() error {
			e.claimOne(other, "a")
			e.c.RPush(e.ctx, e.keys.inbox(other), "b")
			e.expire(other)
			if done, err := e.retire(e.ctx, run, other, "dead"); err != nil || !done {
				e.t.Fatal(done, err)
			}
			return func() error { _, err := e.Reap(e.ctx, run, other, 1); return err }
		},
	},
	{
		"retire", "sidecar:gone sidecar:paused sidecar:clock",
		func(e *env, run, other string) func() error {
			e.expire(other)
			return func() error { _, err := e.retire(e.ctx, run, other, "dead"); return err }
		},
	},
	{
		"register", "sidecar:gone sidecar:paused sidecar:clock sidecar:meta:NEW",
		func(e *env, _, other string) func() error {
			return func() error { return e.Register(e.ctx, "NEW", other) }
		},
	},
	{
		"requeue", "queue sidecar:attempts sidecar:attempts:at sidecar:clock sidecar:dead",
		func(e *env, run, _ string) func() error {
			e.barrier("g", 2)
			d := e.claimOne(run, "a").Delivery
			report := done(d, "t", "1")
			report.Dead = &DeadLetter{Reason: "r", Attempts: 1}
			e.report(run, report)
			return func() error { _, err := e.Requeue(e.ctx, d, false); return err }
		},
	},
	{
		"drop", "sidecar:dead",
		func(e *env, run, _ string) func() error {
			d := e.claimOne(run, "a").Delivery
			e.report(run, Report{Delivery: d, Dead: &DeadLetter{Reason: "r"}})
			return func() error { _, err := e.Drop(e.ctx, d); return err }
		},
	},
	{
		"take isolated", "queue sidecar:inbox:RUN sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock sidecar:delayed sidecar:delayed:records sidecar:isolated",
		func(e *env, run, other string) func() error {
			e.isolate(other, e.suspect(other, "a", "2:run"))
			return func() error { _, err := e.TakeIsolated(e.ctx, run, "n", KindDemand{}); return err }
		},
	},
	{
		"collect", "sidecar:inbox:RUN",
		func(e *env, run, other string) func() error {
			e.push(jobs("x")...)
			e.routed(other, abKinds, 1, 1)
			return func() error { _, err := e.Collect(e.ctx, run, 9); return err }
		},
	},
	{
		"tick", "queue sidecar:inflight:RUN sidecar:meta:RUN sidecar:attempts sidecar:attempts:at sidecar:clock sidecar:gone sidecar:delayed sidecar:delayed:records sidecar:isolated sidecar:paused sidecar:orders:RUN sidecar:unrouted sidecar:watch",
		func(e *env, run, other string) func() error {
			e.isolate(run, e.suspect(run, "a", "2:run"))
			due := e.claimOne(run, "b")
			if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: due.Delivery}}); err != nil {
				e.t.Fatal(err)
			}
			e.c.RPush(e.ctx, e.keys.inbox(other), "c")
			if _, err := e.retire(e.ctx, other, other, "clean"); err != nil {
				e.t.Fatal(err)
			}
			if err := e.SendCommand(e.ctx, run, fleet.Command{}); err != nil {
				e.t.Fatal(err)
			}
			return func() error { _, err := e.Tick(e.ctx, run, []byte("{}"), "host:run"); return err }
		},
	},
}

// A key of another type ends an operation before its first change: a script is not rolled
// back.
func TestNothingChangesBesideAKeyOfAnotherType(t *testing.T) {
	for _, c := range wrongTypeCases {
		for key := range strings.FieldsSeq(c.keys) {
			t.Run(c.name+"/"+key, func(t *testing.T) {
				e := onModel(t, Options{})
				run, other := e.run("w"), e.run("o")
				call := c.call(e, run, other)
				name := e.o.Prefix + ":" + strings.NewReplacer("RUN", run, "OTHER", other).Replace(key)
				typed := e.c.Type(e.ctx, name).Val()
				e.c.Del(e.ctx, name)
				e.set(name, "x")
				before := e.snapshot()
				if err := call(); err == nil {
					t.Errorf("no error with a string in place of a %s", typed)
				}
				after := e.snapshot()
				if !maps.Equal(before, after) {
					t.Errorf("changed:\n got %v\nfrom %v", after, before)
				}
			})
		}
	}
}

// TestWrongTypeNamesTheKey: Redis does not say which key has another type; the error does.
func TestWrongTypeNamesTheKey(t *testing.T) {
	for _, key := range []string{"queue", "sidecar:attempts", "sidecar:inflight:RUN"} {
		t.Run(key, func(t *testing.T) {
			e := onModel(t, Options{})
			run := e.run("w")
			e.push("a")
			name := e.keys.prefix + ":" + strings.ReplaceAll(key, "RUN", run)
			e.c.Del(e.ctx, name)
			e.c.Set(e.ctx, name, "x", 0)
			_, err := e.Claim(e.ctx, run, "n", 1)
			wrong, ok := errors.AsType[*WrongTypeError](err)
			if !ok || wrong.Key != name || wrong.Type != "string" || Classify(err) != ClassFatal || ClassName(err) != "wrongtype" {
				t.Errorf("%v (%v, %s)", err, Classify(err), ClassName(err))
			}
		})
	}
}

// TestNameWrongTypeLeavesOtherErrors: an error that is no WRONGTYPE asks Redis nothing, and
// a WRONGTYPE of another program's key stays as it is.
func TestNameWrongTypeLeavesOtherErrors(t *testing.T) {
	e := onModel(t, Options{})
	e.c.Set(e.ctx, e.keys.queue(), "x", 0)
	other := errors.New("other")
	if got := e.NameWrongType(e.ctx, other, ""); !errors.Is(got, other) || errors.As(got, new(*WrongTypeError)) {
		t.Errorf("%v", got)
	}
	_, wrong := e.QueueLen(e.ctx)
	named, ok := errors.AsType[*WrongTypeError](e.NameWrongType(e.ctx, wrong, ""))
	if !ok || named.Key != e.keys.queue() {
		t.Fatalf("%v: %v", wrong, named)
	}
	if got := e.NameWrongType(e.ctx, named, ""); got.Error() != named.Error() {
		t.Errorf("named twice: %v", got)
	}
	e.c.Del(e.ctx, e.keys.queue())
	if got := e.NameWrongType(e.ctx, wrong, ""); !errors.Is(got, wrong) || errors.As(got, new(*WrongTypeError)) {
		t.Errorf("%v", got)
	}
}

// TestTypesAreThoseInUse: after some work, each key of the prefix has the type that the
// error says it must have.
func TestTypesAreThoseInUse(t *testing.T) {
	e := onModel(t, Options{})
	run := e.run("w")
	a, b := e.claimOne(run, "a"), e.claimOne(run, "b")
	if _, err := e.Release(e.ctx, run, back(a)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: b.Delivery, After: time.Minute, Isolate: true, Record: b.Record, Count: true}}); err != nil {
		t.Fatal(err)
	}
	types, seen := e.keys.types(run), 0
	for _, key := range e.keysUnder("*") {
		want, known := types[key]
		if !known {
			continue
		}
		seen++
		if got := e.c.Type(e.ctx, key).Val(); got != want {
			t.Errorf("%s is a %s, and types says %s", key, got, want)
		}
	}
	if seen < 6 {
		t.Errorf("only %d keys of types are in use", seen)
	}
}
