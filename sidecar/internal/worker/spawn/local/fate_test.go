package local

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFateNamesSignalsAndWhoSentThem(t *testing.T) {
	const killed = syscall.WaitStatus(syscall.SIGKILL)
	for _, c := range []struct {
		name   string
		status syscall.WaitStatus
		sent   bool
		oom    verdict
		peak   int64
		want   string
	}{
		{"a status", 3 << 8, false, verdictYes, 0, "exited with status 3"},
		{"a crash", syscall.WaitStatus(syscall.SIGSEGV) | 0x80, false, verdictYes, 0, "was killed by SIGSEGV"},
		{"SIGTERM from outside", syscall.WaitStatus(syscall.SIGTERM), false, verdictYes, 0, "was killed by SIGTERM"},
		{"SIGTERM of ours", syscall.WaitStatus(syscall.SIGTERM), true, verdictYes, 0, "was killed by SIGTERM, sent by the sidecar"},
		{"a signal without a name", 63, false, verdictNo, 0, "was killed by signal 63"},
		{"SIGKILL of ours", killed, true, verdictYes, 900 << 20, "was killed by SIGKILL, sent by the sidecar"},
		{"out of memory", killed, false, verdictYes, 900<<20 + 1, "was killed by SIGKILL (out of memory); it took 901 MiB of memory at most"},
		{"perhaps", killed, false, verdictUnknown, 0, "was killed by SIGKILL (out of memory?)"},
		{"not for want of memory", killed, false, verdictNo, 0, "was killed by SIGKILL"},
	} {
		if got := fate(c.status, c.sent, func() verdict { return c.oom }, c.peak); got != c.want {
			t.Errorf("%s: it %s, want it %s", c.name, got, c.want)
		}
	}
}

// TestKillsForWantOfMemoryAreAssignedToDeaths: each kill is assigned to one death, and
// not to one that is noticed much later.
func TestKillsForWantOfMemoryAreAssignedToDeaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := int64(7), error(nil)
		k := &oomKills{read: func() (int64, error) { return n, err }}
		if got := k.died(); got != verdictUnknown {
			t.Errorf("before it has begun: %v", got)
		}
		k.begin()
		k.begin() // called at every start of a process
		time.Sleep(time.Hour)
		want := func(step string, verdicts ...verdict) {
			t.Helper()
			for i, w := range verdicts {
				if got := k.died(); got != w {
					t.Errorf("%s: death %d: %v, want %v", step, i, got, w)
				}
			}
		}
		want("nothing was killed", verdictNo)
		n = 9
		want("two were killed", verdictYes, verdictYes, verdictNo)
		n = 12
		want("three were killed, one is a child", verdictYes)
		time.Sleep(oomMemory + time.Second)
		want("much later", verdictNo)
		err = errors.New("gone")
		want("it cannot be read", verdictUnknown)
	})
}

func TestKillsThatCannotBeCounted(t *testing.T) {
	k := &oomKills{read: func() (int64, error) { return 0, errors.New("no control group") }}
	k.begin()
	if got := k.died(); got != verdictUnknown {
		t.Error(got)
	}
}
