package lease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/modelstore"
)

// side is the Redis side of a lease on a model, and what it has told the sidecar.
type side struct {
	*lease.Redis
	model   *modelstore.Redis
	ctx     context.Context
	store   *redis.Store // that of the lease
	flights *lease.InFlightSet
	parked  link.Parked
	told    []string // calls of OnTick, OnRegistered and CheckServer, in their order
	said    int      // descriptions
	dead    []task.Outcome
	trimmed [2]int // dead letters that were deleted, by number and by age
}

// onModel calls f in a bubble. A record has one attempt.
func onModel(t *testing.T, f func(t *testing.T, s *side)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &side{model: modelstore.New(t), ctx: t.Context(), flights: lease.NewInFlightSet()}
		s.store = s.model.Store()
		s.Redis = lease.NewRedis(lease.RedisOptions{
			Store: s.store, Last: s.model.Store(), Link: s.model.Link(nil), Log: s.model.Logger(),
			MaxAttempts: 1, InFlight: s.flights, Parked: &s.parked,
			Describe: func(run string) ([]byte, string) {
				s.said++
				return []byte("about " + run), "host:" + run
			},
			Trace: func(*task.Task) task.Span { return nil },
			OnTick: func(own, all bool, commands []fleet.Command) {
				s.told = append(s.told, fmt.Sprintf("paused %t %t, %d commands", own, all, len(commands)))
			},
			OnRegistered: func(run string) { s.told = append(s.told, "registered "+run) },
			DeadLetter:   func(o task.Outcome) { s.dead = append(s.dead, o) },
			DeadTrimmed: func(many, old int) {
				s.trimmed[0] += many
				s.trimmed[1] += old
			},
			CheckServer: func(context.Context) { s.told = append(s.told, "server checked") },
		})
		f(t, s)
	})
}

// register registers a run, without a word about it.
func (s *side) register(t *testing.T, run string) {
	t.Helper()
	if err := s.Register(s.ctx, run); err != nil {
		t.Fatal(err)
	}
	s.told = nil
}

func (s *side) isMember(run string) bool {
	return s.model.Do("SISMEMBER", "p:sidecar:runs", run).Int == 1
}

// tick ticks once, and then lets a second pass.
func (s *side) tick(t *testing.T, run string) (dead []string) {
	t.Helper()
	dead, err := s.Tick(s.ctx, run)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	return dead
}

// leaveBehind makes a run that has died with records in flight.
func (s *side) leaveBehind(run string, records ...string) {
	s.model.Do("SADD", "p:sidecar:runs", run)
	for i, r := range records {
		s.model.Do("HSET", "p:sidecar:inflight:"+run, fmt.Sprint(run, ".", i+1), r)
	}
}

// operation is a call of the lease and the script behind it.
type operation struct {
	script string
	call   func() error
}

// operations are those for a run, with its end last.
func (s *side) operations(run string) []operation {
	return []operation{
		{"register", func() error { return s.Register(s.ctx, run) }},
		{"renew", func() error { return s.Renew(s.ctx, run) }},
		{"tick", func() error { _, err := s.Tick(s.ctx, run); return err }},
		{"reap", func() error { return s.Reap(s.ctx, run, "w-9") }},
		{"retire", func() error { return s.Leave(s.ctx, run) }},
	}
}

// TestARegisteredRunIsAMember: the pause is known before anything can be claimed, and the
// description is published at once.
func TestARegisteredRunIsAMember(t *testing.T) {
	for _, paused := range []bool{false, true} {
		onModel(t, func(t *testing.T, s *side) {
			if paused {
				if err := s.store.Pause(s.ctx, fleet.AllRuns, "a test"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Register(s.ctx, "w-1"); err != nil {
				t.Fatal(err)
			}
			want := []string{fmt.Sprintf("paused false %t, 0 commands", paused), "registered w-1", "server checked"}
			if !slices.Equal(s.told, want) {
				t.Errorf("told %q, want %q", s.told, want)
			}
			if !s.isMember("w-1") || s.model.Do("GET", "p:sidecar:info:w-1").Text != "about w-1" {
				t.Errorf("member: %t; described as %q", s.isMember("w-1"), s.model.Do("GET", "p:sidecar:info:w-1").Text)
			}
		})
	}
}

// TestTheServerCheckIsOptional: a sidecar without it registers.
func TestTheServerCheckIsOptional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := modelstore.New(t)
		l := lease.NewRedis(lease.RedisOptions{
			Store: m.Store(), Link: m.Link(nil), Log: m.Logger(),
			Describe:     func(string) ([]byte, string) { return nil, "" },
			OnTick:       func(bool, bool, []fleet.Command) {},
			OnRegistered: func(string) {},
		})
		if err := l.Register(t.Context(), "w-1"); err != nil {
			t.Error(err)
		}
	})
}

// TestARefusedRegistrationIsNone: nothing may be claimed for a run whose registration, or the
// question for its pause, has failed.
func TestARefusedRegistrationIsNone(t *testing.T) {
	for _, script := range []string{"register", "pause"} {
		t.Run(script, func(t *testing.T) {
			onModel(t, func(t *testing.T, s *side) {
				s.register(t, "w-1")
				if err := s.store.Pause(s.ctx, "w-1", "a test"); err != nil {
					t.Fatal(err)
				}
				s.tick(t, "w-1")
				s.told = nil
				s.model.Fail(script, "OOM full")
				if err := s.Register(s.ctx, "w-2"); err == nil || len(s.told) > 0 {
					t.Errorf("%v, told %q", err, s.told)
				}
			})
		})
	}
	t.Run("paused", func(t *testing.T) {
		onModel(t, func(t *testing.T, s *side) {
			s.model.Fail("hmget", "LOADING")
			if err := s.Register(s.ctx, "w-1"); err == nil || len(s.told) > 0 {
				t.Errorf("%v, told %q", err, s.told)
			}
		})
	})
}

// TestAFormerRunIsEnded: its records return to the queue when the next run is registered, also
// if that takes many attempts.
func TestAFormerRunIsEnded(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		s.model.Do("HSET", "p:sidecar:inflight:w-1", "w-1.1", "a record")
		s.model.Fail("register", "OOM full")
		for range 20 {
			if err := s.Register(s.ctx, "w-2"); err == nil {
				t.Fatal("no error")
			}
		}
		s.model.Fail("register", "")
		s.register(t, "w-2")
		s.tick(t, "w-2")
		if s.isMember("w-1") || s.model.Do("LLEN", "p:queue").Int != 1 {
			t.Errorf("the former run is a member: %t; %d records in the queue", s.isMember("w-1"), s.model.Do("LLEN", "p:queue").Int)
		}
	})
}

// TestAPauseOutlivesItsRun: a user has paused the sidecar and not a run id.
func TestAPauseOutlivesItsRun(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		if err := s.store.Pause(s.ctx, "w-1", "a test"); err != nil {
			t.Fatal(err)
		}
		s.tick(t, "w-1")
		if want := "paused true false, 0 commands"; s.told[0] != want {
			t.Errorf("told %q, want %q", s.told[0], want)
		}
		s.told = nil
		for _, run := range []string{"w-2", "w-3"} {
			if err := s.Register(s.ctx, run); err != nil {
				t.Fatal(err)
			}
			if want := []string{"paused true false, 0 commands", "registered " + run, "server checked"}; !slices.Equal(s.told, want) {
				t.Errorf("told %q, want %q", s.told, want)
			}
			s.told = nil
		}
		if err := s.store.Unpause(s.ctx, "w-3"); err != nil {
			t.Fatal(err)
		}
		s.tick(t, "w-3")
		s.register(t, "w-4")
		if own, _, err := s.store.Paused(s.ctx, "w-4"); own || err != nil {
			t.Errorf("paused after the end of the pause: %t, %v", own, err)
		}
	})
}

// TestNothingIsSentToARedisThatIsAway: only the health monitor probes it.
func TestNothingIsSentToARedisThatIsAway(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		s.model.Monitor.Failed(io.EOF)
		for _, op := range s.operations("w-1") {
			if op.script == "reap" {
				continue // it follows a tick that Redis has answered
			}
			before := s.model.Calls(op.script)
			if err := op.call(); !errors.Is(err, link.ErrUnavailable) || s.model.Calls(op.script) != before {
				t.Errorf("%s: %v, and %d calls", op.script, err, s.model.Calls(op.script)-before)
			}
		}
		if len(s.told) > 0 {
			t.Errorf("told %q", s.told)
		}
	})
}

// TestWhatTheAnswersOfRedisMean: for the lease, and for the health monitor, which hears of each
// call that succeeded and of no other.
func TestWhatTheAnswersOfRedisMean(t *testing.T) {
	for reply, want := range map[string]error{"GONE not a member": lease.ErrGone, "FORMAT 9": lease.ErrOutdated, "OOM full": nil, "": nil} {
		t.Run(reply, func(t *testing.T) {
			onModel(t, func(t *testing.T, s *side) {
				s.register(t, "w-1")
				s.leaveBehind("w-9")
				for _, op := range s.operations("w-1") {
					s.model.Monitor.Failed(redisError("LOADING"))
					if s.model.Monitor.Away() {
						t.Fatal("the monitor takes a reply for a lost connection")
					}
					s.model.Fail(op.script, reply)
					if op.script == "register" {
						s.model.Fail("renew", reply) // it publishes the description
					}
					err := op.call()
					if (err == nil) != (reply == "") || errors.Is(err, lease.ErrGone) != errors.Is(want, lease.ErrGone) || errors.Is(err, lease.ErrOutdated) != errors.Is(want, lease.ErrOutdated) {
						t.Errorf("%s: %v, want %v", op.script, err, want)
					}
					if errors.Is(want, lease.ErrOutdated) && !strings.Contains(err.Error(), "sidecar:format says 9") {
						t.Errorf("%s: the format is not told: %v", op.script, err)
					}
					if got := s.model.Monitor.Lost(); got != (reply != "") {
						t.Errorf("%s: lost is %t", op.script, got)
					}
					s.model.Fail(op.script, "")
					s.model.Fail("renew", "")
				}
			})
		})
	}
}

// redisError is a reply of Redis.
type redisError string

func (e redisError) Error() string { return string(e) }

// RedisError marks the error as a reply, for go-redis.
func (redisError) RedisError() {}

// TestADescriptionIsPublishedEveryOtherTick: it lives as long as the lease.
func TestADescriptionIsPublishedEveryOtherTick(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		s.said = 0
		for range 20 {
			s.tick(t, "w-1")
			if s.model.Do("EXISTS", "p:sidecar:info:w-1").Int != 1 {
				t.Fatal("no description")
			}
		}
		if s.said != 10 {
			t.Errorf("%d descriptions in 20 s", s.said)
		}
	})
}

// TestWhatATickTells: the parked records, the pauses and the commands.
func TestWhatATickTells(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		s.model.Do("RPUSH", "p:sidecar:unrouted", "1", "2")
		s.model.Do("ZADD", "p:sidecar:isolated", "1", "a", "2", "b", "3", "c")
		if err := errors.Join(s.store.Pause(s.ctx, fleet.AllRuns, "a test"), s.store.SendCommand(s.ctx, "w-1", fleet.Command{Action: fleet.Drain})); err != nil {
			t.Fatal(err)
		}
		if dead := s.tick(t, "w-1"); len(dead) > 0 || s.parked.Unrouted.Load() != 2 || s.parked.Isolated.Load() != 3 {
			t.Errorf("dead %v, unrouted %d, isolated %d", dead, s.parked.Unrouted.Load(), s.parked.Isolated.Load())
		}
		if want := []string{"paused false true, 1 commands"}; !slices.Equal(s.told, want) {
			t.Errorf("told %q, want %q", s.told, want)
		}
	})
}

// TestOldDeadLettersAreDeleted: a tick deletes the oldest dead letters in steps, goes on with
// the next tick where that takes long, tells how many, and fails if that fails.
func TestOldDeadLettersAreDeleted(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		add := func(n int) {
			for i := range n {
				s.model.Do("ZADD", "p:sidecar:dead", fmt.Sprint(time.Now().UnixMilli()), fmt.Sprint("r.", i))
			}
		}
		left := func() int64 { return s.model.Do("ZCARD", "p:sidecar:dead").Int }
		add(modelstore.DeadLetterMax)
		s.tick(t, "w-1")
		if left() != modelstore.DeadLetterMax || s.trimmed != [2]int{} || strings.Contains(s.model.Log.String(), "dead letters") {
			t.Errorf("%d are left, %v deleted", left(), s.trimmed)
		}
		add(modelstore.DeadLetterMax + 350)
		s.model.Fail("trim_dead", "OOM full")
		if _, err := s.Tick(s.ctx, "w-1"); err == nil {
			t.Error("no error")
		}
		s.model.Fail("trim_dead", "")
		time.Sleep(time.Second)
		s.tick(t, "w-1")
		if left() != modelstore.DeadLetterMax || s.trimmed != [2]int{350, 0} {
			t.Errorf("%d are left, %v deleted", left(), s.trimmed)
		}
		if n := strings.Count(s.model.Log.String(), `msg="old dead letters deleted" above_number=350 above_age=0`); n != 1 {
			t.Errorf("the log has %d lines", n)
		}
		time.Sleep(modelstore.DeadLetterMaxAge)
		s.register(t, "w-2")
		s.tick(t, "w-2")
		if left() != 0 || s.trimmed != [2]int{350, modelstore.DeadLetterMax} {
			t.Errorf("%d are left, %v deleted", left(), s.trimmed)
		}
	})
}

// TestWhatADeadReaperLeft: a tick goes on with the records of a run whose reaper has died, and
// fails if that fails.
func TestWhatADeadReaperLeft(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		for _, run := range []string{"w-8", "w-9"} {
			s.model.Do("ZADD", "p:sidecar:gone", fmt.Sprint(time.Now().UnixMilli()), run)
			s.model.Do("HSET", "p:sidecar:meta:"+run, "ended", "clean")
			s.model.Do("HSET", "p:sidecar:inflight:"+run, run+".1", "a", run+".2", "b")
		}
		s.model.Fail("reap", "OOM full")
		if _, err := s.Tick(s.ctx, "w-1"); err == nil {
			t.Error("no error")
		}
		s.model.Fail("reap", "")
		time.Sleep(time.Second)
		s.tick(t, "w-1")
		if n := s.model.Do("EXISTS", "p:sidecar:inflight:w-8", "p:sidecar:inflight:w-9").Int; n != 0 {
			t.Errorf("records of %d runs are left", n)
		}
	})
}

// TestRestoredDeliveriesAreRequeued: a failover restores deliveries that have ended. They
// return to the queue within 5 s, and an idle sidecar does not compare.
func TestRestoredDeliveriesAreRequeued(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		for range 10 {
			s.tick(t, "w-1")
		}
		if n := s.model.Calls("reconcile"); n > 0 {
			t.Errorf("idle, and compared %d times", n)
		}
		s.flights.Add([]task.Task{{Delivery: "w-1.1", Seq: 1}, {Delivery: "w-1.2", Seq: 2}})
		s.flights.Remove([]task.Outcome{{Task: task.Task{Delivery: "w-1.2"}}})
		s.model.Do("HSET", "p:sidecar:inflight:w-1", "w-1.1", "running", "w-1.2", "ended", "w-1.3", "claimed now")
		began := time.Now()
		for s.model.Do("LLEN", "p:queue").Int == 0 && time.Since(began) < time.Minute {
			s.tick(t, "w-1")
		}
		if d := time.Since(began); d > 6*time.Second || s.model.Do("LINDEX", "p:queue", "0").Text != "ended" || s.model.Do("LLEN", "p:queue").Int != 1 {
			t.Errorf("after %v: %v", d, s.model.Do("LRANGE", "p:queue", "0", "-1"))
		}
		before := s.model.Calls("reconcile")
		for range 50 {
			s.tick(t, "w-1")
		}
		if n := s.model.Calls("reconcile") - before; n != 10 {
			t.Errorf("compared %d times in 50 s", n)
		}
		s.model.Fail("reconcile", "GONE not a member")
		for range 5 {
			if _, err := s.Tick(s.ctx, "w-1"); errors.Is(err, lease.ErrGone) {
				return
			}
			time.Sleep(time.Second)
		}
		t.Error("the end of the run was not told")
	})
}

// TestALastLossIsADeadLetter: a record that was lost for the last time with another sidecar
// ends here, with the fields that can be read.
func TestALastLossIsADeadLetter(t *testing.T) {
	whole := `{"task_id":"a","group_id":"g","timeout":5}`
	long := `{"task_id":"a","group_id":"g","text":"` + strings.Repeat("x", 1<<20) + `"}`
	for name, record := range map[string]string{"whole": whole, "cut": long} {
		t.Run(name, func(t *testing.T) {
			onModel(t, func(t *testing.T, s *side) {
				s.register(t, "w-1")
				s.leaveBehind("w-9", record)
				if err := s.Reap(s.ctx, "w-1", "w-9"); err != nil {
					t.Fatal(err)
				}
				if len(s.dead) != 1 {
					t.Fatalf("%d dead letters", len(s.dead))
				}
				o := s.dead[0]
				want := task.Info{TaskID: "a", GroupID: "g"}
				if name == "whole" {
					want.Timeout = 5 * time.Second
				}
				if o.Task.Info != want || o.Task.Size() != len(record) || o.Conclusion != task.Dead || o.Reason != "attempts" {
					t.Errorf("%d bytes, %+v, %v for %q", o.Task.Size(), o.Task.Info, o.Conclusion, o.Reason)
				}
				if all, _ := s.flights.Deliveries("w-1"); !slices.Equal(all, []string{o.Task.Delivery}) {
					t.Errorf("in flight are %v, want %s", all, o.Task.Delivery)
				}
			})
		})
	}
}

// TestLeavingOverTheOtherConnection: a run leaves over the connection of the lease, and over
// the other one only if that one is closed: another server behind the same address would
// report success without ending the run.
func TestLeavingOverTheOtherConnection(t *testing.T) {
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		s.model.Fail("retire", "OOM full")
		if err := s.Leave(s.ctx, "w-1"); err == nil || s.model.Calls("retire") != 1 {
			t.Errorf("refused: %v, %d calls", err, s.model.Calls("retire"))
		}
		s.model.Fail("retire", "")
		if err := s.Leave(s.ctx, "w-1"); err != nil || s.model.Calls("retire") != 2 {
			t.Errorf("accepted: %v, %d calls", err, s.model.Calls("retire"))
		}
	})
	onModel(t, func(t *testing.T, s *side) {
		s.register(t, "w-1")
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Leave(s.ctx, "w-1"); err != nil || s.isMember("w-1") {
			t.Errorf("closed: %v, member: %t", err, s.isMember("w-1"))
		}
	})
}

// TestFormerRunsAreLeft: a database that came back has a former run as a member, or as one that
// has ended, with records. They are requeued at no cost, since no tick comes any more.
func TestFormerRunsAreLeft(t *testing.T) {
	for _, c := range []struct {
		name               string
		before, afterwards []string // records that the former run gets, as a member
	}{
		{"a run that has ended", []string{"a"}, nil},
		{"a member", nil, []string{"a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onModel(t, func(t *testing.T, s *side) {
				s.register(t, "w-1")
				s.leaveBehind("w-1", c.before...)
				s.register(t, "w-2")
				if c.afterwards != nil {
					s.leaveBehind("w-1", c.afterwards...)
				}
				s.model.Fail("retire", "OOM full")
				if err := s.Leave(s.ctx, "w-2"); err == nil || s.model.Calls("retire") != 1 {
					t.Errorf("refused: %v, %d calls", err, s.model.Calls("retire"))
				}
				s.model.Fail("retire", "")
				for range 2 { // what has been left is not left again
					if err := s.Leave(s.ctx, "w-2"); err != nil || s.model.Calls("retire") != 1+2 {
						t.Errorf("accepted: %v, %d calls", err, s.model.Calls("retire"))
					}
				}
				if got := s.model.Do("LRANGE", "p:queue", "0", "-1").Texts(); !slices.Equal(got, []string{"a"}) {
					t.Errorf("the queue holds %q", got)
				}
				for _, run := range []string{"w-1", "w-2"} {
					if s.isMember(run) || s.model.Do("EXISTS", "p:sidecar:meta:"+run, "p:sidecar:inflight:"+run, "p:sidecar:alive:"+run).Int != 0 {
						t.Errorf("keys of %s are left", run)
					}
				}
				if n := s.model.Do("HLEN", "p:sidecar:attempts").Int; n != 0 {
					t.Errorf("%d records have used an attempt", n)
				}
			})
		})
	}
}
