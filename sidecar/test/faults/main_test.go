//go:build faults

package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

var (
	scratch string // all histories and logs
	seed    uint64
	runs    = 200
	atMost  = 120 * time.Second
)

func TestMain(m *testing.M) {
	// The workers are this binary, started again by the sidecar, and so are the
	// workers' own children.
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			os.Exit(serveTasks())
		case "quitter":
			os.Exit(serveByHand(true))
		case "by-hand":
			os.Exit(serveByHand(false))
		case "task":
			os.Exit(runTask())
		case "sleeper":
			os.Exit(sleepUntilOrphaned())
		case "daemon":
			ms, _ := strconv.Atoi(os.Args[2])
			wait.Pass(time.Duration(ms) * time.Millisecond)
			return
		}
	}
	go machine.Run()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	redis.SetLogger(nil) // go-redis would log every connection that a fault breaks
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	fmt.Printf("FAULT_SEED=%d FAULT_RUNS=%d FAULT_SECONDS=%d\n", seed, runs, int(atMost.Seconds()))
	began := time.Now()
	defer programs.Remove()
	status := m.Run()
	fmt.Printf("\nFAULT_SEED=%d, %s, %.0f s\n", seed, serverVersion(), time.Since(began).Seconds())
	table.print(os.Stdout)
	second.print(os.Stdout)
	if os.Getenv("FAULT_KEEP") == "" && status == 0 {
		_ = os.RemoveAll(scratch) // leftovers in a temporary folder do no harm
	} else {
		fmt.Println("histories and logs are in", scratch)
	}
	return status
}

// serverVersion returns the first words of the server's output for --version.
func serverVersion() string {
	binary := os.Getenv("REDISTEST_BINARY")
	if binary == "" {
		binary, _ = serverproc.Find() // without one no test has passed
	}
	text, _ := exec.Command(binary, "--version").Output()
	words := strings.Fields(string(text))
	return strings.Join(words[:min(3, len(words))], " ")
}

func setUp() (err error) {
	if err := possible(); err != nil {
		return err
	}
	if scratch = os.Getenv("FAULT_KEEP"); scratch != "" {
		err = os.MkdirAll(scratch, 0o755)
	} else {
		scratch, err = os.MkdirTemp("", "graflow-sidecar-faults-")
	}
	if err != nil {
		return err
	}
	seed = rand.Uint64N(1e9)
	for name, set := range map[string]func(uint64){
		"FAULT_SEED":    func(n uint64) { seed = n },
		"FAULT_RUNS":    func(n uint64) { runs = int(n) },
		"FAULT_SECONDS": func(n uint64) { atMost = time.Duration(n) * time.Second },
	} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 63)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			set(n)
		}
	}
	return nil
}

// random returns the random numbers of one goroutine of a test, by the goroutine's number.
// The same seed gives the same plan, whatever other goroutines and tests do.
func random(t *testing.T, who int) *rand.Rand {
	name := uint64(who)
	for _, b := range []byte(t.Name()) {
		name = name*31 + uint64(b)
	}
	return rand.New(rand.NewPCG(seed, name))
}

var (
	programs      = build.Programs{Flags: build.FlagsFrom("FAULT_BUILDFLAGS")}
	sidecarBinary = func() (string, error) {
		if given := os.Getenv("FAULT_SIDECAR"); given != "" {
			return given, nil
		}
		return builtSidecar()
	}
	builtSidecar = programs.Program("sidecar")

	// fleet returns the binary of the n-th sidecar or command of a test. A mixed fleet (see
	// mixed_test.go) has another one here.
	fleet = func(int) (string, error) { return sidecarBinary() }
	// possible returns an error if the tests cannot run.
	possible = func() error { return nil }
	// sources are the folders of the sources of all binaries.
	sources = []string{build.Root()}
)
