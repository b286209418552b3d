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

// peer is the sidecar's end of a started program.
type peer struct {
	*testing.T
	cmd    *exec.Cmd
	in     *protocol.LineWriter
	out    *protocol.LineReader
	stderr bytes.Buffer
}

func startProgram(t *testing.T, args ...string) *peer {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{T: t, cmd: exec.Command(self, args...)}
	p.cmd.Env = append(os.Environ(), mainVariable+"=1")
	p.cmd.Stderr = &p.stderr
	stdin, err1 := p.cmd.StdinPipe()
	stdout, err2 := p.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, p.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	p.in, p.out = protocol.NewLineWriter(stdin, 0), protocol.NewLineReader(stdout, 0)
	return p
}

func (p *peer) send(line []byte) {
	p.Helper()
	if err := errors.Join(p.in.WriteLine(line), p.in.Flush()); err != nil {
		p.Fatal(err)
	}
}

// ask sends a request and returns its answer, and by method what the program said
// before it. What the program asks is granted.
func (p *peer) ask(line []byte) (protocol.Message, map[string][]string) {
	p.Helper()
	p.send(line)
	said := map[string][]string{}
	for {
		line, err := p.out.Next()
		if err != nil {
			p.Fatalf("%v; stderr: %s", err, p.stderr.String())
		}
		if len(line) == 0 { // before its first message
			continue
		}
		m, err := protocol.DecodeMessage(line)
		if err != nil {
			p.Fatal(err)
		}
		switch {
		case m.IsResponse():
			m.Result = bytes.Clone(m.Result) // the line is the reader's
			return m, said
		case m.IsRequest():
			p.send(protocol.AppendResult(nil, m.ID, []byte(`{}`)))
		}
		said[m.Method] = append(said[m.Method], string(m.Params))
	}
}

func (p *peer) shutdown() {
	p.Helper()
	p.send(protocol.AppendNotification(nil, protocol.MethodShutdown, nil))
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("after shutdown: %v; stderr: %s", err, p.stderr.String())
	}
}

// The program as a whole: its tasks over real pipes, then shutdown.
func TestProgram(t *testing.T) {
	p := startProgram(t, "-concurrency", "3")
	m, _ := p.ask(protocol.AppendRequest(nil, 1, protocol.MethodInitialize, []byte(`{"protocolVersion":1}`)))
	if !strings.Contains(string(m.Result), `"concurrency":3`) || !strings.Contains(string(m.Result), `"inputs":{"etl.clean*":["fetch","threshold"]}`) {
		t.Errorf("initialize: %s %v", m.Result, m.Error)
	}
	m, _ = p.ask(protocol.AppendTaskRun(nil, 2, protocol.RunParams{Delivery: "r.1", Record: []byte(`{"task_id":"primes_1"}`), Attempt: 1}))
	if want := `{"status":"succeeded","value":{"count":78498,"largest":999983}}`; string(m.Result) != want {
		t.Errorf("task/run: %s %v, want %s", m.Result, m.Error, want)
	}
	m, said := p.ask(protocol.AppendTaskRun(nil, 3, protocol.RunParams{
		Delivery: "r.2", Record: []byte(`{"task_id":"etl.clean"}`), Attempt: 1,
		Inputs: []protocol.Input{{Name: "fetch", Text: []byte(`[{"id":1,"text":"<i>So it goes.</i>"},{"id":2,"text":"so it goes"}]`)}},
	}))
	stats := `{"read":2,"kept":1,"duplicates":1,"empty":0,"words":3,"bytes":11}`
	if want := `{"status":"succeeded","value":{"records":[{"id":1,"text":"So it goes."}],"duplicates":[{"index":1,"of":0,"likeness":1}],"stats":` + stats + `}}`; string(m.Result) != want {
		t.Errorf("task/run: %s %v, want %s", m.Result, m.Error, want)
	}
	if want := `{"delivery":"r.2","key":"etl.clean.stats","value":` + stats + `}`; fmt.Sprint(said[protocol.MethodChannelSet]) != "["+want+"]" {
		t.Errorf("channel/set: %s, want %s", said[protocol.MethodChannelSet], want)
	}
	if len(said[protocol.MethodLog]) != 1 || len(said[protocol.MethodProgress]) == 0 {
		t.Errorf("log and progress: %s", said)
	}
	p.shutdown()
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
