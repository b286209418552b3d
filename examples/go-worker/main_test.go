package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/examples/go-worker/tasks"
	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/protocol/conformance"
)

const mainVariable = "GO_WORKER_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The program as a whole: one task over real pipes, then shutdown.
func TestProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-concurrency", "3")
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	in, out := protocol.NewLineWriter(stdin, 0), protocol.NewLineReader(stdout, 0)
	ask := func(line []byte) protocol.Message {
		t.Helper()
		if err := errors.Join(in.WriteLine(line), in.Flush()); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := out.Next()
			if err != nil {
				t.Fatalf("%v; stderr: %s", err, stderr.String())
			}
			m, err := protocol.DecodeMessage(line)
			if err != nil {
				t.Fatal(err)
			}
			if m.IsResponse() {
				return m
			}
		}
	}
	m := ask(protocol.AppendRequest(nil, 1, protocol.MethodInitialize, []byte(`{"protocolVersion":1}`)))
	if !strings.Contains(string(m.Result), `"concurrency":3`) {
		t.Errorf("initialize: %s %v", m.Result, m.Error)
	}
	m = ask(protocol.AppendTaskRun(nil, 2, protocol.RunParams{Delivery: "r.1", Record: []byte(`{"task_id":"primes_1"}`), Attempt: 1}))
	if want := `{"status":"succeeded","value":{"count":78498,"largest":999983}}`; string(m.Result) != want {
		t.Errorf("task/run: %s %v, want %s", m.Result, m.Error, want)
	}
	line := protocol.AppendNotification(nil, protocol.MethodShutdown, nil)
	if err := errors.Join(in.WriteLine(line), in.Flush()); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after shutdown: %v; stderr: %s", err, stderr.String())
	}
}

// The program keeps every rule that can be seen from outside.
func TestConformance(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := filepath.Abs("main_test.go")
	if err != nil {
		t.Fatal(err)
	}
	conformance.Worker{
		Command: []string{self},
		Env:     append(os.Environ(), mainVariable+"=1"),
		Records: conformance.Records{
			Quick:   json.RawMessage(`{"task_id":"primes_1","params":{"to":1000}}`),
			Slow:    fmt.Appendf(nil, `{"task_id":"pi_1","params":{"samples":%d}}`, samplesFor(t, 2500*time.Millisecond)),
			Failing: json.RawMessage(`{"task_id":"words_1","params":{"path":"/no/such/file"}}`),
			Large:   fmt.Appendf(nil, `{"task_id":"words_2","params":{"path":%q,"top":10000}}`, text),
		},
		Patience: time.Minute, // the slow task takes what the processor has to spare
	}.Run(t)
}

// samplesFor is how many points the pi task throws in about d, here and now.
func samplesFor(t *testing.T, d time.Duration) int64 {
	t.Helper()
	const probe = 10_000_000
	began := time.Now()
	task := &protocol.Task{Record: fmt.Appendf(nil, `{"task_id":"pi_0","params":{"samples":%d}}`, probe)}
	if _, err := tasks.Handler(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	return int64(probe * d / time.Since(began))
}

func TestProgramByHand(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), mainVariable+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sidecar run -- ") {
		t.Errorf("got %v, %q", err, out)
	}
}
