package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

var (
	benchRecord = []byte(`{"task_id":"word_count_17","session_id":"5d5a0a34-8f0f-4c38-a7a5-5d0b5f0f6f3b","graph_hash":"0f343b0931126a20f133d67c2b018a3b0f343b0931126a20f133d67c2b018a3b","trace_id":"9bb7cf0e8a0b4e4d8a8f6b7b0c1d2e3f","created_at":1732335600.123456,"group_id":"group_42","parent_span_id":null}`)
	benchRun    = AppendTaskRun(nil, 1234567, RunParams{Delivery: "worker_7-0123456789abcdef0123456789abcdef.1234567", Record: benchRecord, Attempt: 1})
	benchResult = []byte(`{"jsonrpc":"2.0","id":1234567,"result":{"status":"succeeded"}}`)
)

func BenchmarkDecodeMessage(b *testing.B) {
	large := AppendResult(nil, []byte("7"), []byte(`{"status":"succeeded","value":"`+strings.Repeat("the quick brown fox ", 50_000)+`"}`))
	for _, bb := range []struct {
		name string
		line []byte
	}{{"task/run", benchRun}, {"result", benchResult}, {"1MB", large}} {
		b.Run(bb.name, func(b *testing.B) {
			b.SetBytes(int64(len(bb.line)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeMessage(bb.line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncodingJSON is what the hand-written decoder is measured against.
func BenchmarkEncodingJSON(b *testing.B) {
	b.SetBytes(int64(len(benchRun)))
	b.ReportAllocs()
	for b.Loop() {
		var m struct {
			Version string          `json:"jsonrpc"`
			ID      json.RawMessage `json:"id"`
			Method  string          `json:"method"`
			Params  json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal(benchRun, &m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeRunResult(b *testing.B) {
	for _, bb := range []struct{ name, raw string }{
		{"succeeded", `{"status":"succeeded"}`},
		{"value", `{"status":"succeeded","value":{"words":1234,"top":[["the",17],["fox",3]]}}`},
		{"failed", `{"status":"failed","error":{"type":"ValueError","message":"no","retryable":false}}`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			raw := []byte(bb.raw)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := DecodeRunResult(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendTaskRun(b *testing.B) {
	p := RunParams{Delivery: "worker_7-0123456789abcdef.1234567", Record: bytes.Repeat([]byte("x"), 250), Attempt: 1}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = AppendTaskRun(buf[:0], 1234567, p)
	}
}

func BenchmarkFindID(b *testing.B) {
	prefix := benchRun[:IDWindow]
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := FindID(prefix); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkLineReader(b *testing.B) {
	for _, bb := range []struct {
		name string
		line []byte
	}{{"task/run", benchRun}, {"1MB", bytes.Repeat([]byte("x"), 1<<20)}} {
		b.Run(bb.name, func(b *testing.B) {
			r := NewLineReader(&endless{line: append(bytes.Clone(bb.line), '\n')}, 0)
			b.SetBytes(int64(len(bb.line) + 1))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// endless repeats one line for ever.
type endless struct {
	line []byte
	at   int
}

func (e *endless) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], e.line[e.at:])
		n += m
		e.at = (e.at + m) % len(e.line)
	}
	return n, nil
}

func BenchmarkLineWriter(b *testing.B) {
	w := NewLineWriter(io.Discard, 0)
	b.SetBytes(int64(len(benchRun) + 1))
	b.ReportAllocs()
	for b.Loop() {
		if err := w.WriteLine(benchRun); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkServe is a worker in a process of its own, over real pipes: one task
// is one line there and one back. worker-ns/task is the worker's processor time.
func BenchmarkServe(b *testing.B) {
	for _, bb := range []struct {
		name, role string
		ahead      int
	}{{"one at a time", "answer", 1}, {"32 ahead", "answer", 32}, {"64 at once", "answer 64", 64}} {
		b.Run(bb.name, func(b *testing.B) {
			p := startWorker(b, bb.role)
			p.initialize(b)
			b.ReportAllocs()
			sent, id := 0, int64(100)
			var line []byte
			for got := 0; got < b.N; got++ {
				for sent < b.N && sent-got < bb.ahead {
					id++
					line = AppendTaskRun(line[:0], id, RunParams{Delivery: "run.1", Record: benchRecord, Attempt: 1})
					if err := p.in.WriteLine(line); err != nil {
						b.Fatal(err)
					}
					sent++
				}
				if err := p.in.Flush(); err != nil {
					b.Fatal(err)
				}
				if m := p.next(b); m.Result == nil {
					b.Fatalf("got %+v", m)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
			p.shutdown(b)
			used := p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "worker-ns/task")
		})
	}
}

// answer is the handler of the benchmark.
func answer(context.Context, *Task) (any, error) { return nil, nil }
