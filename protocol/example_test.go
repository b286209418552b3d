package protocol_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log" //nolint:depguard // an example for programs with a log of their own
	"strings"

	"github.com/graflow/graflow-sidecar/protocol"
)

// A whole worker. Without WithIO it speaks over stdin and stdout, and is run as:
// sidecar run -- ./words
func ExampleServe() {
	countWords := func(_ context.Context, t *protocol.Task) (any, error) {
		var record struct{ Text string }
		if err := t.Decode(&record); err != nil {
			return nil, err
		}
		return len(strings.Fields(record.Text)), nil
	}
	sidecar := conversation(
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}`,
		`{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"d.1","record":{"text":"to be or not to be"}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"shutdown"}`,
	)
	err := protocol.Serve(context.Background(), countWords, protocol.WithIO(sidecar, sidecar), protocol.WithInfo("words", "1.0"))
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"worker":{"name":"words","version":"1.0"},"concurrency":1,"capabilities":{"channels":{}}}}
	// {"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":6}}
	// {"jsonrpc":"2.0","id":3,"result":{}}
}

// A task with parameters: customers is the result of the task of that name, which
// the sidecar sends along. A nil handler makes Serve run what was registered.
func ExampleRegister() {
	type in struct {
		Customers []string `json:"customers"`
		Limit     int      `json:"limit,omitempty"`
	}
	protocol.Register("clean", func(ctx protocol.Context, in in) ([]string, error) {
		for i, name := range in.Customers {
			in.Customers[i] = strings.TrimSpace(name)
		}
		ctx.Progress(1, "trimmed")
		return in.Customers, nil
	})
	sidecar := conversation(
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}`,
		`{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"d.1","record":{"task_id":"clean"},"inputs":{"customers":{"value":[" Ada ","Grace "]}}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"shutdown"}`,
	)
	sidecar.hidden = 1 // the answer to initialize
	if err := protocol.Serve(context.Background(), nil, protocol.WithIO(sidecar, sidecar)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"jsonrpc":"2.0","method":"$/progress","params":{"delivery":"d.1","fraction":1,"message":"trimmed"}}
	// {"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":["Ada","Grace"]}}
	// {"jsonrpc":"2.0","id":3,"result":{}}
}

// A failure that may pass: the sidecar delivers the record again after a pause,
// instead of reporting a failed task.
func ExampleRetryable() {
	fetch := func(_ context.Context, _ *protocol.Task) (any, error) {
		return nil, protocol.Retryable(errors.New("the database restarts"))
	}
	sidecar := conversation(
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}`,
		`{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"d.1","record":{"task_id":"fetch"}}}`,
		`{"jsonrpc":"2.0","id":3,"method":"shutdown"}`,
	)
	sidecar.hidden = 1
	if err := protocol.Serve(context.Background(), fetch, protocol.WithIO(sidecar, sidecar)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"jsonrpc":"2.0","id":2,"result":{"status":"failed","error":{"type":"error","message":"the database restarts","retryable":true}}}
	// {"jsonrpc":"2.0","id":3,"result":{}}
}

// The sidecar's side of the protocol, without Serve: frame a request, read the
// answer, and take it apart.
func ExampleDecodeMessage() {
	var toWorker bytes.Buffer
	w := protocol.NewLineWriter(&toWorker, protocol.DefaultMaxMessageBytes)
	request := protocol.AppendTaskRun(nil, 7, protocol.RunParams{Delivery: "d.1", Attempt: 1, Record: []byte(`{"task_id":"fetch"}`)})
	if err := errors.Join(w.WriteLine(request), w.Flush()); err != nil {
		log.Fatal(err)
	}
	fmt.Print(toWorker.String())

	fromWorker := strings.NewReader(`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded","value":[1,2]}}` + "\n")
	line, err := protocol.NewLineReader(fromWorker, protocol.DefaultMaxMessageBytes).Next()
	if err != nil {
		log.Fatal(err)
	}
	m, err := protocol.DecodeMessage(line)
	if err != nil {
		log.Fatal(err)
	}
	r, err := protocol.DecodeRunResult(m.Result)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s, %s\n", m.ID, r.Status, r.Value)
	// Output:
	// {"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"d.1","record":{"task_id":"fetch"},"attempt":1}}
	// 7: succeeded, [1,2]
}

// A sidecar that is played: it sends its lines one after another, each when the
// one before has been answered, and prints what the worker sends.
type sidecar struct {
	lines    []string
	answered chan struct{}
	hidden   int // answers that are not printed
}

func conversation(lines ...string) *sidecar {
	s := &sidecar{lines: lines, answered: make(chan struct{}, len(lines)+1)}
	s.answered <- struct{}{}
	return s
}

func (s *sidecar) Read(p []byte) (int, error) {
	<-s.answered
	if len(s.lines) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.lines[0]+"\n")
	s.lines = s.lines[1:]
	return n, nil
}

func (s *sidecar) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		switch isAnswer := strings.Contains(line, `"id":`); {
		case !isAnswer:
			fmt.Print(line)
		case s.hidden > 0:
			s.hidden--
			s.answered <- struct{}{}
		default:
			fmt.Print(line)
			s.answered <- struct{}{}
		}
	}
	return len(p), nil
}
