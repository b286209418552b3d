package main

import (
	"runtime"
	"slices"
	"testing"
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
