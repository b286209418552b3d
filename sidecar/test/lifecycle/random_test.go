//go:build lifecycle

package lifecycle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// fromEnv reads a number from the environment.
func fromEnv(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSIGTERMAtARandomInstantLosesNothing: in the middle of starting, claiming,
// running or reporting, and with a second signal now and then. Every record has
// either its result or its place in the queue, exactly one of them, and nothing
// of the run is left.
func TestSIGTERMAtARandomInstantLosesNothing(t *testing.T) {
	t.Parallel()
	runs := int(fromEnv(t, "LIFECYCLE_RUNS", map[bool]uint64{true: 40, false: 200}[testing.Short()]))
	seed := fromEnv(t, "LIFECYCLE_SEED", rand.Uint64N(1e9))
	t.Logf("LIFECYCLE_SEED=%d LIFECYCLE_RUNS=%d", seed, runs)
	const side = 3 // by side
	for lane := range side {
		t.Run(fmt.Sprint("lane", lane), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, uint64(lane)))
			for n := lane; n < runs; n += side {
				at := time.Duration(rnd.IntN(350)) * time.Millisecond
				if !t.Run(fmt.Sprint(n, " after ", at), func(t *testing.T) { randomStop(t, rnd, at) }) {
					return // its log is long enough
				}
			}
		})
	}
}

func randomStop(t *testing.T, rnd *rand.Rand, at time.Duration) {
	b := newBench(t)
	const n = 60
	ids := names("t", n)
	var early, later []job
	for _, id := range ids {
		j := job{TaskID: id, Do: "sleep", For: (time.Duration(rnd.IntN(20)) * time.Millisecond).String()}
		if rnd.IntN(3) > 0 {
			early = append(early, j)
		} else {
			later = append(later, j)
		}
	}
	b.push(early...)
	s := b.sidecar("MAX_CONCURRENT_TASKS=3")
	second := rnd.IntN(5) == 0
	gap := time.Duration(rnd.IntN(100)) * time.Millisecond
	wait.Pass(at / 2)
	if len(later) > 0 {
		b.push(later...)
	}
	wait.Pass(at - at/2)
	s.signal(syscall.SIGTERM)
	if second {
		wait.Pass(gap)
		s.signal(syscall.SIGTERM)
	}
	s.exits(exitAfterStop(s), 3*time.Second)

	queued := make(map[string]int)
	for _, id := range b.queue() {
		queued[id]++
	}
	ended, waiting := 0, 0
	for _, id := range ids {
		result := b.result(id) != ""
		switch {
		case result && queued[id] == 0:
			ended++
		case !result && queued[id] == 1:
			waiting++
		default:
			t.Errorf("%s: result %v, %d times in the queue", id, result, queued[id])
		}
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("keys left over: %v", left)
	}
	if n := b.attempts(); n > 0 {
		t.Errorf("%d records were charged an attempt", n)
	}
	if delayed := b.rdb.ZCard(context.Background(), b.key("sidecar:delayed")).Val(); delayed > 0 {
		t.Errorf("%d records are delayed", delayed)
	}
	s.silent()
	t.Logf("%d ended, %d in the queue; second signal: %v", ended, waiting, second)
}

// exitAfterStop is the status to expect: a signal that came before the sidecar
// had installed its handlers ends it as it ends any process, and there was
// nothing to lose yet.
func exitAfterStop(s *sidecar) int {
	<-s.done
	if s.log.String() == "" && !s.cmd.ProcessState.Exited() {
		return -1
	}
	return 0
}
