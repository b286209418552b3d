package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// sized is a record of so many bytes, each part of which differs.
func sized(id string, size int) string {
	var b strings.Builder
	b.WriteString(`{"task_id":"` + id + `","pad":"`)
	for n := 0; b.Len() < size-2; n++ {
		fmt.Fprintf(&b, "%09d,", n)
	}
	return b.String()[:size-2] + `"}`
}

// whole reads a claimed record to its end.
func (e *env) whole(run string, c Claimed, parts int) string {
	e.t.Helper()
	var b strings.Builder
	for b.Len() < c.Length {
		part, err := e.RecordParts(e.ctx, run, c.Delivery, b.Len()/PartBytes, parts)
		if err != nil {
			e.t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		b.Write(part)
	}
	return b.String()
}

func TestClaimOfALargeRecord(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		small, large, edge := sized("small", 1000), sized("large", 3*maxReply+1), sized("edge", 2*maxReply)
		e.push(small, large, edge, small)
		same(t, "before it", records(e.claim(run, 9)), []string{small})
		for _, want := range []string{large, edge} {
			claim := func() []Claimed {
				t.Helper()
				got, err := e.Claim(e.ctx, run, "n"+want[:20], 9)
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			first := claim()
			same(t, "claimed", len(first), 1)
			same(t, "length", first[0].Length, len(want))
			same(t, "head", string(first[0].Record), want[:maxHead])
			same(t, "in flight", e.hash(e.keys.inflight(run))[first[0].Delivery] == want, true)
			same(t, "the second reply", claim(), first)
			third := claim()
			same(t, "the third reply has less", fmt.Sprint(len(third), third[0].Length, len(third[0].Record)), fmt.Sprint(1, len(want), leastHead))
			for _, parts := range []int{MaxParts, 1, 99} {
				same(t, "whole", e.whole(run, first[0], parts) == want, true)
				same(t, "keys of parts", e.keysUnder(":sidecar:parts:*"), []string{})
			}
		}
		same(t, "behind it", records(e.claim(run, 9)), []string{small})
	})
}

func TestRepliesToAClaimAreBounded(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		var pushed []string
		for i := range 40 {
			pushed = append(pushed, sized(fmt.Sprint(i), 40<<10))
		}
		e.push(pushed...)
		var got []Claimed
		for len(got) < len(pushed) {
			some := e.claim(run, 99)
			if len(got) == 0 {
				same(t, "in the first reply", len(some), maxReply/(40<<10))
			}
			size := 0
			for _, c := range some {
				size += len(c.Record)
			}
			if size > maxReply || len(some) == 0 {
				t.Fatalf("%d records of %d bytes in one reply", len(some), size)
			}
			got = append(got, some...)
		}
		same(t, "all", records(got), pushed)
	})
}

// A claim whose reply was lost twice gets a shorter one: whole records as long as they fit,
// the heads of the others.
func TestTheThirdReplyToAClaimIsShort(t *testing.T) {
	for _, c := range []struct {
		sizes []int // the last record ends before the second call
		third string
	}{
		{[]int{leastReply / 2, leastReply / 2, leastHead, leastHead + 1, 1}, "8192 8192 1024 1024"},
		{[]int{leastReply / 2, leastReply/2 + 1, leastReply/2 - leastHead + 1, 1}, "8192 1024 1024"},
		{[]int{leastReply / 2, leastReply/2 + 1, leastReply/2 - leastHead, 1}, "8192 1024 7168"},
	} {
		both(t, Options{}, func(t *testing.T, e *env) {
			run := e.run("w")
			whole := ""
			for i, size := range c.sizes {
				e.push(strings.Repeat(fmt.Sprint(i), size))
				whole += fmt.Sprint(size, " ")
			}
			last := len(c.sizes) - 1
			whole = strings.TrimSuffix(whole, " ")
			for i, want := range []string{whole, strings.TrimSuffix(whole, " 1"), c.third} {
				got, err := e.Claim(e.ctx, run, "n", 9)
				if err != nil {
					t.Fatal(err)
				}
				var lengths []string
				for j, c := range got {
					lengths = append(lengths, fmt.Sprint(len(c.Record)))
					same(t, "delivery", c.Delivery, fmt.Sprint(run, ".", j+1))
				}
				same(t, "bytes", strings.Join(lengths, " "), want)
				same(t, "length", got[1].Length, c.sizes[1])
				if i == 0 {
					e.report(run, Report{Delivery: got[last].Delivery})
				}
			}
			same(t, "the next delivery", e.claimOne(run, "r").Delivery, fmt.Sprint(run, ".", last+2))
		})
	}
}

func TestRoutedClaimOfALargeRecord(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		large := sized("a1", maxReply+1)
		e.push(large, job("b1"), sized("x1", maxReply+1))
		for range 2 {
			got, err := e.ClaimRouted(e.ctx, run, "n", KindDemand{abKinds, []int{1, 1}, keep})
			if err != nil {
				t.Fatal(err)
			}
			same(t, "claimed", claimedLengths(got.Claimed), fmt.Sprint(len(large), " of kind 0"))
			same(t, "whole", e.whole(run, got.Claimed[0], MaxParts) == large, true)
		}
		same(t, "the others", claimedIDs(e.routed(run, abKinds, 1, 1).Claimed), []string{"b1:1"})
	})
}

func claimedLengths(all []Claimed) string {
	var list []string
	for _, c := range all {
		list = append(list, fmt.Sprintf("%d of kind %d", c.Length, c.Kind))
	}
	return strings.Join(list, ", ")
}

func TestPartsOfNoDelivery(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push(sized("a", maxReply+1))
		c := e.claim(run, 1)[0]
		if _, err := e.RecordParts(e.ctx, run, c.Delivery, 0, 1); err != nil {
			t.Fatal(err)
		}
		same(t, "the parts are there", len(e.keysUnder(":sidecar:parts:*")), 1)
		if ttl := e.c.PTTL(e.ctx, e.keys.own("parts:"+c.Delivery)).Val(); ttl <= 0 || ttl > partsKeep {
			t.Errorf("for %v", ttl)
		}
		e.release(run, back(c)...)
		part, err := e.RecordParts(e.ctx, run, c.Delivery, 1, 1)
		if err != nil || len(part) > 0 {
			t.Errorf("%d bytes, %v", len(part), err)
		}
		same(t, "keys of parts", e.keysUnder(":sidecar:parts:*"), []string{})
	})
}

// TestALargeRecordUnderAnOutputLimit: Redis closes the connection of a client whose
// unsent replies exceed the limit. A record in front of others is waited for,
// claimed and read all the same.
func TestALargeRecordUnderAnOutputLimit(t *testing.T) {
	r := redistest.Start(t, "--client-output-buffer-limit", "normal 1mb 1mb 1")
	e := newEnv(t, r.Client(), Options{Prefix: "graflow"})
	run := e.run("w")
	large := sized("large", 12<<20)
	go func() {
		time.Sleep(100 * time.Millisecond)
		e.c.RPush(e.ctx, e.keys.queue(), large, job("next"))
	}()
	if came, err := e.Wait(e.ctx, run, 5*time.Second); !came && err == nil {
		t.Error("nothing came")
	}
	c := e.claim(run, 1)[0]
	same(t, "length", c.Length, len(large))
	same(t, "whole", e.whole(run, c, MaxParts) == large, true)
	same(t, "the next one", records(e.claim(run, 1)), jobs("next"))
}

// TestAWaitDoesNotReadALargeRecord: over a slow link its reply would outlast the wait.
func TestAWaitDoesNotReadALargeRecord(t *testing.T) {
	shared := onRedis(t, Options{})
	o := *shared.c.Options()
	c, err := NewClient(ClientOptions{URL: fmt.Sprintf("redis://%s/%d", o.Addr, o.DB), ReadTimeout: testTimeout})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(c, shared.o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	e := &env{Store: s, c: shared.c, t: t, ctx: shared.ctx}
	run := e.run("w")
	for _, size := range []int{100, maxReply / 2, 8 << 20} {
		record := sized("a", size)
		e.push(record)
		came, err := e.Wait(e.ctx, run, time.Second)
		if !came || err != nil {
			t.Errorf("%d bytes: %t, %v", size, came, err)
		}
		same(t, "claimed", e.claim(run, 1)[0].Length, size)
	}
	came, err := e.Wait(e.ctx, run, time.Second)
	if came || err != nil {
		t.Errorf("nothing: %t, %v", came, err)
	}
}

func TestMoveReply(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name    string
		command string
		reads   []int
		err     error // of the last read
		moved   bool
		is      error
	}{
		{"a short reply", string(blmove) + "…", []int{5}, nil, false, nil},
		{"a long one", string(blmove), []int{maxReply, 1}, nil, true, nil},
		{"one that is cut short", string(blmove), []int{10, 0}, broken, true, broken},
		{"none", string(blmove), []int{0}, broken, false, broken},
		{"another command", "*2\r\n$3\r\nget\r\n", []int{maxReply, maxReply}, broken, false, broken},
	} {
		var m moveReply
		m.sent([]byte(c.command))
		var err error
		for i, n := range c.reads {
			var with error
			if i == len(c.reads)-1 {
				with = c.err
			}
			err = m.received(n, with)
		}
		if errors.Is(err, errMoved) != c.moved || c.is != nil && !errors.Is(err, c.is) || !c.moved && c.is == nil && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var m moveReply
	m.sent(blmove)
	_ = m.received(maxReply, nil)
	m.sent([]byte("*1\r\n$4\r\nping\r\n"))
	if err := m.received(maxReply, nil); err != nil {
		t.Errorf("the next command: %v", err)
	}
}
