//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// One sidecar runs Graflow's own tasks and those of a worker in Go and of any
// executable, by what they are called.
func TestSeveralKindsOfWorker(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	binary, err := goWorkerBinary()
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	w := b.sidecar(setup{args: []string{
		"--worker", "primes*='" + binary + "' -concurrency 2", "--worker-slots", "primes*=2",
		"--worker", `sh.*=exec:sh -c 'echo "\"$SIDECAR_TASK_ID\""'`,
		"--worker", "*=graflow", "--worker-slots", "*=3",
	}})
	for i := range 5 {
		b.push(fmt.Sprint("primes_", i), b.prefix, map[string]any{"params": map[string]any{"to": 1000 + i}})
		b.push(fmt.Sprint("sh.", i), b.prefix, nil)
	}
	var got struct{ Results map[string]int }
	b.report(&got, "group.py", "20")
	want := map[string]int{}
	for i := range 20 {
		want[fmt.Sprintf("square_%d", i)] = i * i
	}
	equal(t, "Graflow's own", got.Results, want)
	for i := range 5 {
		equal(t, "primes", b.result(b.prefix, fmt.Sprint("primes_", i)), `{"count":168,"largest":997}`)
		equal(t, "exec", b.result(b.prefix, fmt.Sprint("sh.", i)), fmt.Sprintf(`"sh.%d"`, i))
	}
	log := w.log.String()
	if n := strings.Count(log, `"msg":"worker ready","kind":"*"`); n != 3 {
		t.Errorf("%d Graflow workers", n)
	}
	if n := strings.Count(log, `"msg":"worker ready","kind":"primes*"`); n != 1 {
		t.Errorf("%d Go workers, of which each takes two tasks", n)
	}
}

// A group is sent to a prefix of its own, where another sidecar is: the recipe of
// docs/routing.md.
func TestAGroupUnderAPrefixOfItsOwn(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "two sidecars are what it shows")
	b := newBench(t)
	other := redistest.Prefix(t)
	here := b.graflow()
	there := b.sidecar(setup{env: []string{"REDIS_KEY_PREFIX=" + other}})
	var got struct{ Ran map[string]string }
	b.report(&got, "prefixes.py", other)
	equal(t, "who ran what", got.Ran, map[string]string{
		"here_1": here.id, "here_2": here.id, "there_1": there.id, "there_2": there.id,
	})
}
