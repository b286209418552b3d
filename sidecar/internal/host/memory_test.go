package host

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheCollectorHasRoomWhileItIsBusy(t *testing.T) {
	var set []int
	freed := 0
	p := pacer{set: func(percent int) { set = append(set, percent) }, free: func() { freed++ }}
	now, cycles := time.Now(), uint64(0)
	second := func(ran uint64, times int) {
		for range times {
			now, cycles = now.Add(time.Second), cycles+ran
			p.look(now, cycles)
		}
	}
	second(1, 60)
	if len(set) != 0 {
		t.Fatalf("set to %v while little was to do", set)
	}
	second(20, 60)
	second(0, 29)
	second(1, 1) // one more, although it has room
	second(0, 29)
	if !slices.Equal(set, []int{busyPercent}) || freed != 0 {
		t.Fatalf("set to %v, freed %d times", set, freed)
	}
	second(0, 1)
	second(0, 100)
	if !slices.Equal(set, []int{busyPercent, idlePercent}) || freed != 1 {
		t.Fatalf("set to %v, freed %d times", set, freed)
	}
}

func TestCollectionsAreCounted(t *testing.T) {
	// runtime.GC is no automatic one: garbage has to make it.
	before := collections()
	var keep [][]byte
	for i := 0; collections() == before; i++ {
		if keep = append(keep, make([]byte, 1<<20)); i > 1000 {
			t.Fatal("1 GB later no collection has been seen")
		}
	}
	runtime.KeepAlive(keep)
}

// An idle process is not woken: the counter is only read after a collection.
func TestNobodyLooksWhileNothingIsCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var cycles, looks, freed atomic.Uint64
		over := make(chan struct{})
		started, collected := make(chan struct{}), make(chan struct{}, 1)
		p := pacer{set: func(int) {}, free: func() { freed.Add(1) }}
		go func() {
			defer close(over)
			p.run(ctx, started, collected, func() uint64 { looks.Add(1); return cycles.Load() })
		}()
		pass := func(d time.Duration, wantLooks, wantFreed uint64) {
			t.Helper()
			looks.Store(0)
			freed.Store(0)
			time.Sleep(d)
			synctest.Wait()
			if looks.Load() != wantLooks || freed.Load() != wantFreed {
				t.Errorf("in %v: %d looks, freed %d times, want %d and %d", d, looks.Load(), freed.Load(), wantLooks, wantFreed)
			}
		}
		synctest.Wait()
		pass(time.Hour, 0, 0)
		close(started)
		pass(time.Hour, 0, 1)
		cycles.Add(1)
		collected <- struct{}{}
		pass(time.Hour, 2, 1) // it ran, and a second later it did not
		collected <- struct{}{}
		pass(time.Hour, 1, 0) // that was free's own collection
		cycles.Add(1)
		collected <- struct{}{}
		pass(3*time.Second, 2, 1)
		cycles.Add(1)
		collected <- struct{}{}
		pass(3*time.Second, 2, 0) // too soon
		cycles.Add(20)
		collected <- struct{}{}
		pass(time.Hour, 1+uint64(quietFor/time.Second), 1) // and to the end of the busy time
		cancel()
		<-over
	})
}

func TestWhatTheStartNeededStaysWhileItIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var freed atomic.Int64
		over := make(chan struct{})
		started, collected := make(chan struct{}), make(chan struct{})
		p := pacer{set: func(int) {}, free: func() { freed.Add(1) }, busy: true, last: time.Now()}
		go func() {
			defer close(over)
			p.run(ctx, started, collected, func() uint64 { return 0 })
		}()
		close(started)
		collected <- struct{}{}
		time.Sleep(quietFor - time.Second)
		synctest.Wait()
		if freed.Load() != 0 {
			t.Error("freed while it was busy")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if freed.Load() != 1 {
			t.Errorf("freed %d times when it had become quiet", freed.Load())
		}
		cancel()
		<-over
	})
}

func TestACollectionIsToldOf(t *testing.T) {
	ran := watchCollections(t.Context())
	for range 3 {
		runtime.GC()
		select {
		case <-ran:
		case <-time.After(30 * time.Second):
			t.Fatal("a collection was not told of")
		}
	}
}
