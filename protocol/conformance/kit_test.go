package conformance

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// faultVariable makes the test binary a worker with that fault ("none" for none).
const faultVariable = "CONFORMANCE_TEST_FAULT"

func TestMain(m *testing.M) {
	if fault := os.Getenv(faultVariable); fault != "" {
		(&faulty{fault: fault}).main()
		return
	}
	if os.Getenv(sdkVariable) != "" {
		sdkWorker()
		return
	}
	goleak.VerifyTestMain(m)
}

// withFault is the test binary as a worker with a fault.
func withFault(t *testing.T, fault string, scale int) Worker {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Worker{
		Command:  []string{self},
		Env:      append(os.Environ(), faultVariable+"="+fault, "GORACE=atexit_sleep_ms=0"),
		Records:  records(scale),
		Parallel: 4,
		// Long enough for a busy machine; what never comes costs so much time.
		StartTimeout: time.Duration(4*scale) * time.Second,
		Patience:     time.Duration(4*scale) * time.Second,
	}
}

// names gives the checks that ended in a way.
func (r *Report) names(s Status) []string {
	var names []string
	for _, result := range r.Results {
		if result.Status == s {
			names = append(names, result.Check)
		}
	}
	return names
}

// checkAll tests n workers, some at a time: they mostly wait, so that t.Parallel
// would have too few of them run. The kit has to judge by the clock whether a
// worker answers while its tasks run. Where the machine is so busy that a worker
// that keeps the rules seems not to, more time shows it: those whose report is not
// as it should be are tested again with everything that takes time taking longer. A
// fault of a worker, or of the kit, stays one.
func checkAll(t *testing.T, n, slots int, worker func(i, scale int) Worker, asItShould func(i int, r *Report) bool) []*Report {
	t.Helper()
	reports := make([]*Report, n)
	for _, scale := range []int{1, 4, 10} {
		free := make(chan struct{}, max(1, slots/scale))
		var all sync.WaitGroup
		for i := range n {
			if reports[i] != nil && asItShould(i, reports[i]) {
				continue
			}
			w := worker(i, scale)
			free <- struct{}{}
			all.Go(func() {
				defer func() { <-free }()
				report, err := w.Check(t.Context())
				if err != nil {
					t.Error(err)
					report = &Report{}
				}
				reports[i] = report
			})
		}
		all.Wait()
	}
	return reports
}

// A worker without a fault passes everything, and everything is checked.
func TestFaultless(t *testing.T) {
	t.Parallel()
	everything := func(_ int, r *Report) bool { return len(r.Results) > 70 && r.Count(Passed) == len(r.Results) }
	reports := checkAll(t, 1, 1, func(_, scale int) Worker { return withFault(t, "none", scale) }, everything)
	if everything(0, reports[0]) {
		return
	}
	for _, r := range reports[0].Results {
		t.Errorf("%s %s: %s\n%s", r.Check, r.Status, r.Seen, r.Detail)
	}
}

// Prints between messages are allowed, and counted; one that has no line end
// takes a message with it.
func TestPrints(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string][]string{
		"prints":          nil,
		"prints half way": {"always/framing"},
	} {
		w := withFault(t, fault, 4)
		w.Records.Slow = nil
		report, err := w.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if failed := report.names(Failed); !slices.Equal(failed, want) {
			t.Errorf("%s: failed: %q", fault, failed)
		}
		if noted := strings.Contains(report.Worker, "were no messages"); noted != (want == nil) {
			t.Errorf("%s: %s", fault, report.Worker)
		}
	}
}

// What ends the test ends every worker.
func TestEndOfTheTest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	w := withFault(t, "start/answers", 1) // one that would keep the kit waiting
	w.StartTimeout = time.Hour
	w.Log = writer(func([]byte) { cancel() })
	if report, err := w.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v %v", report, err)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

func TestWrongQuestions(t *testing.T) {
	for _, w := range []Worker{
		{},
		{Command: []string{""}},
		{Command: []string{"true"}, Records: Records{Slow: []byte(`7`)}},
		{Command: []string{"true"}, Records: Records{Quick: []byte(`{`)}},
	} {
		if report, err := w.Check(t.Context()); err == nil {
			t.Errorf("%q: %v", w.Command, report)
		}
	}
}

// For every check there is a worker with the fault that it looks for, and no
// other check fails.
func TestEveryFaultIsFound(t *testing.T) {
	t.Parallel()
	dialogues, err := transcripts()
	if err != nil {
		t.Fatal(err)
	}
	var checks []string
	for _, d := range dialogues {
		for _, c := range d.checks {
			checks = append(checks, c.name)
		}
	}
	for _, r := range always {
		checks = append(checks, r.Check)
	}
	if testing.Short() { // every fourth: each takes the dialogues of a whole kit
		for i := 0; i*4 < len(checks); i++ {
			checks[i] = checks[i*4]
		}
		checks = checks[:(len(checks)+3)/4]
	}
	found := func(i int, r *Report) bool { return slices.Equal(r.names(Failed), []string{checks[i]}) }
	reports := checkAll(t, len(checks), 24, func(i, scale int) Worker {
		w := withFault(t, checks[i], scale)
		if !showsWhileBusy(checks[i]) {
			w.Records.Slow = nil // the dialogues with slow tasks take their time
		}
		return w
	}, found)
	for i, name := range checks {
		t.Run(strings.ReplaceAll(name, "/", "_"), func(t *testing.T) {
			if found(i, reports[i]) {
				return
			}
			t.Error("one check alone was to fail")
			for _, r := range reports[i].Results {
				if r.Status == Failed {
					t.Logf("%s: seen: %s", r.Check, r.Seen)
				}
			}
		})
	}
}

// showsWhileBusy reports whether it takes slow tasks to see the fault.
func showsWhileBusy(name string) bool {
	dialogue, check, _ := strings.Cut(name, "/")
	switch dialogue {
	case "busy", "shutdown", "drain":
		return true
	case "ends":
		return check == "stdin-busy" || check == "stdin-after-shutdown"
	case "always":
		return slices.Contains([]string{"task-errors", "deliveries", "telling", "waiting", "capabilities"}, check)
	default:
		return false
	}
}
