package rpc_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// speaker is a worker that writes its own text. answer returns the text for a task,
// with ID in place of the id; the first call is for initialize.
func speaker(concurrency int, first string, answer func(taskID string) string) func(in, out net.Conn) {
	return func(in, out net.Conn) {
		var mu sync.Mutex
		write := func(text string) {
			mu.Lock()
			defer mu.Unlock()
			_, _ = out.Write([]byte(text))
		}
		lines := bufio.NewReader(in)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			var m struct {
				ID     json.RawMessage `json:"id"`
				Method string          `json:"method"`
				Params struct {
					Record struct {
						TaskID string `json:"task_id"`
					} `json:"record"`
				} `json:"params"`
			}
			if json.Unmarshal([]byte(line), &m) != nil {
				return
			}
			switch m.Method {
			case protocol.MethodInitialize:
				write(strings.Replace(first, "RIGHT", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"worker":{"name":"x","version":"1"},"concurrency":%d,"capabilities":{}}}`, concurrency), 1))
			case protocol.MethodPing:
				write(`{"jsonrpc":"2.0","id":` + string(m.ID) + `,"result":{}}` + "\n")
			case protocol.MethodShutdown:
				return
			case protocol.MethodTaskRun:
				// A pause within the text is a duration, as in ‹1s›.
				go func() {
					for part := range strings.SplitSeq(strings.ReplaceAll(answer(m.Params.Record.TaskID), "ID", string(m.ID)), "‹") {
						if pause, rest, ok := strings.Cut(part, "›"); ok {
							d, _ := time.ParseDuration(pause)
							time.Sleep(d)
							part = rest
						}
						write(part)
					}
				}()
			}
		}
	}
}

const right = `{"jsonrpc":"2.0","id":ID,"result":{"status":"succeeded"}}`

// TestAnAnswerThatCannotBeRecognisedEndsItsTask: within a second such an answer is
// understood, or ends its task with an explanation. The next task runs in the same
// worker.
func TestAnAnswerThatCannotBeRecognisedEndsItsTask(t *testing.T) {
	for _, tt := range []struct{ name, answer, message string }{
		{"text in front", "loading 3 rows" + right + "\n", `text stands in front of it on its line: "loading 3 rows"`},
		{"a colour in front", "\x1b[0m" + right + "\n", "an escape sequence"},
		{"a NUL in front", "\x00" + right + "\n", "a NUL"},
		{"several lines", "{\n\"jsonrpc\":\"2.0\",\n\"id\":ID,\n\"result\":{\n\"status\":\"succeeded\"\n}\n}\n", "spread over several lines"},
		{"several lines, the first with its version", "{\"jsonrpc\":\"2.0\",\n\"id\":ID,\n\"result\":{\"status\":\"succeeded\"}\n}\n", "spread over several lines"},
		{"several lines, the first with its id", "{\"jsonrpc\":\"2.0\",\"id\":ID,\n\"result\":{\"status\":\"succeeded\"}\n}\n", "not a valid message"},
		{"several lines without an end", "{\n\"jsonrpc\":\"2.0\",\n\"id\":ID,\n\"result\":{\"status\":\"succeeded\"}\n}", "spread over several lines"},
		{"a header", "Content-Length: 57\r\n\r\n" + right, "Content-Length header"},
		{"no version", `{"id":ID,"result":{"status":"succeeded"}}` + "\n", `it has no "jsonrpc":"2.0"`},
		{"a dict of Python", `{'jsonrpc': '2.0', 'id': ID, 'result': {'status': 'succeeded'}}` + "\n", "single quotes"},
		{"a batch", "[" + right + "]\n", "batch"},
		{"text in front and no line end", "loading" + right, "its line has no end"},
		{"an id that nothing has", `{"jsonrpc":"2.0","id":999,"result":{"status":"succeeded"}}` + "\n", "an id that no request had: 999"},
		{"a text that is no number as id", `{"jsonrpc":"2.0","id":"a","result":{"status":"succeeded"}}` + "\n", `an id that no request had: "a"`},
		{"no version and another id", "x" + `{"jsonrpc":"2.0","id":999,"result":{"status":"succeeded"}}` + "\n", "its id is 999"},
		{"text for a number", `{"jsonrpc":"2.0","id":"ID","result":{"status":"succeeded"}}` + "\n", ""},
		{"a number with a fraction", `{"jsonrpc":"2.0","id":ID.0,"result":{"status":"succeeded"}}` + "\n", ""},
		{"a number with an exponent", `{"jsonrpc":"2.0","id":IDe0,"result":{"status":"succeeded"}}` + "\n", ""},
		{"a byte order mark", "\uFEFF" + right + "\n", ""},
		{"no line end", right, ""},
		{"a line end that is late", right + "‹700ms›\n", ""},
		{"a message in pieces", `{"jsonrpc":"2.0","id":ID,"res‹5s›ult":{"status":"succ‹5s›eeded"}}` + "\n", ""},
		{"a message in other pieces", `{"jsonrpc":"2.0","id":ID,"result":{"status":"succeeded",‹5s›"value":1}}` + "\n", ""},
		{"a print of the answer before it", "sent " + right + "\n‹300ms›" + right + "\n", ""},
		{"a pretty print of the answer before it", "{\n\"jsonrpc\":\"2.0\",\"id\":ID,\n\"result\":{\"status\":\"succeeded\"}}\n‹300ms›" + right + "\n", ""},
		{"another answer before it", `{"jsonrpc":"2.0","id":999,"result":{"status":"succeeded"}}` + "\n‹300ms›" + right + "\n", ""},
		{"JSON of the task", "{\n\"id\": ID,\n\"result\": 0.9\n}\n{\"id\":ID,\"result\":{\"rows\":3}}\n[1,\n2]\n‹9s›" + right + "\n", ""},
		{"JSON-RPC of another program", `{"jsonrpc":"2.0","id":999,"result":"0x10"}` + "\n‹9s›" + right + "\n", ""},
		{"a JSON log with a message in it", `{"level":"debug","sent":` + right + "}\n‹9s›" + right + "\n", ""},
		{"a prompt", "Continue? ‹9s›\n" + right + "\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startFake(t, &fakes{concurrency: 1, speaks: speaker(1, "RIGHT\n", func(id string) string {
					if id == "odd" {
						return tt.answer
					}
					return right + "\n"
				})}, func(c *rpc.Config) {})
				began := time.Now()
				b.wait("the task", b.push("odd", task.IsolateNone))
				took := time.Since(began)
				time.Sleep(time.Second)
				b.wait("the next task", b.push("next", task.IsolateNone))
				failure := b.lastFailure()
				if tt.message == "" && (b.count(task.Failed) > 0 || b.count(task.Succeeded) != 2) {
					t.Errorf("not understood: %s", failure)
				}
				if tt.message != "" && (!strings.Contains(failure, tt.message) || took > time.Second) {
					t.Errorf("after %v: %q, want %q", took, failure, tt.message)
				}
				if n := len(b.fakes.all()); n != 1 {
					t.Errorf("%d processes", n)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestAnAnswerBehindAnotherInALineOverTheLimit has two tasks whose answers are in one line,
// since the first one has no line end. Neither task waits for ever.
func TestAnAnswerBehindAnotherInALineOverTheLimit(t *testing.T) {
	long := `{"jsonrpc":"2.0","id":ID,"result":{"status":"succeeded","value":"` + strings.Repeat("x", 9000) + `"}}`
	for _, tt := range []struct{ name, first, second string }{
		{"a short one, then a long one", right, long + "\n"},
		{"a long one, then a short one", long, right + "\n"},
		{"two long ones", long, long + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startFake(t, &fakes{speaks: speaker(2, "RIGHT\n", func(id string) string {
					switch id {
					case "first":
						return "‹100ms›" + tt.first
					case "second":
						return "‹150ms›" + tt.second
					}
					return right + "\n"
				})}, func(c *rpc.Config) { c.MaxMessageBytes, c.Slots = 4096, 2 })
				began := time.Now()
				first, second := b.push("first", task.IsolateNone), b.push("second", task.IsolateNone)
				b.wait("the first task", first)
				b.wait("the second task", second)
				if took := time.Since(began); took > 1500*time.Millisecond || b.count(task.Failed) != 2 {
					t.Errorf("%d failed after %v: %s", b.count(task.Failed), took, b.lastFailure())
				}
				b.wait("the next task", b.push("next", task.IsolateNone))
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestAnAnswerInALineOverTheLimit: the line is not stored, and an answer is found
// anywhere in it.
func TestAnAnswerInALineOverTheLimit(t *testing.T) {
	text, long := strings.Repeat("loading ", 1000), strings.Repeat("x", 9000)
	for _, tt := range []struct{ name, answer, message string }{
		{"text in front of a long answer", text[:300] + `{"jsonrpc":"2.0","id":ID,"result":{"status":"succeeded","value":"` + long + `"}}` + "\n", "text stands in front of it on its line"},
		{"text over the limit in front of an answer", text + right + "\n", "text stands in front of it on its line"},
		{"the id at the end", `{"result":{"status":"succeeded","value":"` + long + `"},"id":ID,"jsonrpc":"2.0"}` + "\n", "message: its line has 9"},
		{"no line end", text + right, "its line has no end and more than the 4096 bytes"},
		{"a print of the answer before it", text + right + "\n‹300ms›" + right + "\n", ""},
		{"a slow print of the answer before it", text + right + "‹400ms›" + text + "‹400ms›\n" + right + "\n", ""},
		{"text alone", text + "\n‹9s›" + right + "\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startFake(t, &fakes{concurrency: 1, speaks: speaker(1, "RIGHT\n", func(id string) string {
					if id == "odd" {
						return tt.answer
					}
					return right + "\n"
				})}, func(c *rpc.Config) { c.MaxMessageBytes = 4096 })
				began := time.Now()
				b.wait("the task", b.push("odd", task.IsolateNone))
				took := time.Since(began)
				b.wait("the next task", b.push("next", task.IsolateNone))
				failure := b.lastFailure()
				if tt.message == "" && b.count(task.Succeeded) != 2 {
					t.Errorf("not understood: %s", failure)
				}
				if tt.message != "" && (!strings.Contains(failure, tt.message) || !strings.Contains(failure, "4096") || took > 1500*time.Millisecond) {
					t.Errorf("after %v: %q, want %q", took, failure, tt.message)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// lastFailure returns the message of the last failed task.
func (b *fakePool) lastFailure() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed.Message
}

// TestAnAnswerThatCannotBeRecognisedAmongSeveralTasks: the task that is meant fails. If
// it is unknown the worker is replaced, and no task waits for ever.
func TestAnAnswerThatCannotBeRecognisedAmongSeveralTasks(t *testing.T) {
	for _, tt := range []struct {
		name, answer, message string
		processes             int
	}{
		{"text in front", "loading" + right + "\n", "text stands in front", 1},
		{"behind another answer", right + `{"jsonrpc":"2.0","id":ID,"result":{}}` + "\n", "text stands behind it", 1},
		{"an id that nothing has", `{"jsonrpc":"2.0","id":999,"result":{"status":"succeeded"}}` + "\n", "belongs to one of 2 tasks", 2},
		{"an error without an id", `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}` + "\n", "belongs to one of 2 tasks", 2},
		{"several lines without an id", "{\"jsonrpc\":\"2.0\",\n\"result\":{\"status\":\"succeeded\"}}\n", "spread over several lines", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				times := 0
				b := startFake(t, &fakes{speaks: speaker(2, "RIGHT\n", func(id string) string {
					switch {
					case id == "slow":
						return "‹20s›" + right + "\n"
					case times > 0:
						return right + "\n"
					}
					times++
					return tt.answer
				})}, func(c *rpc.Config) { c.Slots = 2 })
				slow := b.push("slow", task.IsolateNone)
				time.Sleep(100 * time.Millisecond)
				odd := b.push("odd", task.IsolateNone)
				if tt.processes == 1 {
					b.wait("the task", odd)
					if got := b.lastFailure(); !strings.Contains(got, tt.message) {
						t.Errorf("%q, want %q", got, tt.message)
					}
				} else {
					time.Sleep(time.Second)
					b.mu.Lock()
					message := b.lost.Message
					for _, id := range []string{"odd", "slow"} { // in the order of Redis
						b.giveBackLocked(task.Task{Attempt: 2, Record: fmt.Appendf(nil, `{"task_id":%q}`, id), Info: task.Info{TaskID: id}})
					}
					b.mu.Unlock()
					if b.count(task.Lost) != 2 || !strings.Contains(message, tt.message) {
						t.Errorf("%d lost, %q, want %q", b.count(task.Lost), message, tt.message)
					}
					b.wait("the task", odd)
				}
				b.wait("the other task", slow)
				if n := len(b.fakes.all()); n != tt.processes {
					t.Errorf("%d processes", n)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestAnAnswerInTheWrongFormBeforeTheEndOfStdout: a worker that ends at once after such an
// answer has answered all the same, and the task does not run again.
func TestAnAnswerInTheWrongFormBeforeTheEndOfStdout(t *testing.T) {
	for name, tail := range map[string]string{"": "", "within a line": `{"jsonrpc":"2.0",`} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startFake(t, &fakes{speaks: func(in, out net.Conn) {
					speaker(2, "RIGHT\n", func(id string) string {
						if id == "first" {
							return "‹100ms›" + right
						}
						go func() {
							time.Sleep(200 * time.Millisecond)
							_, _ = out.Write([]byte(tail))
							_ = out.Close()
						}()
						return "‹120ms›" + right + "\n" // on the line of the other one
					})(in, out)
				}}, func(c *rpc.Config) { c.Slots = 2 })
				first, second := b.push("first", task.IsolateNone), b.push("second", task.IsolateNone)
				b.wait("the first task", first)
				b.wait("the second task", second)
				if failed, lost := b.count(task.Failed), b.count(task.Lost); failed != 2 || lost != 0 {
					t.Errorf("%d failed, %d lost", failed, lost)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestAnErrorWithoutAnIDIsTheLossOfTheOneTask: an error response without an id belongs
// to the only running task (P28, P61).
func TestAnErrorWithoutAnIDIsTheLossOfTheOneTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startFake(t, &fakes{speaks: speaker(1, "RIGHT\n", func(string) string {
			return `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"what?"}}` + "\n"
		})}, func(*rpc.Config) {})
		b.push("t", task.IsolateNone)
		time.Sleep(time.Second)
		if b.count(task.Lost) != 1 || !strings.Contains(b.lost.Message, "the error -32700 and no id: what?") || len(b.fakes.all()) != 1 {
			t.Errorf("%d lost: %s", b.count(task.Lost), b.lost.Message)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAMessageThatDoesNotGoOnFailsItsTask: an unfinished message is judged after the
// write timeout (P62).
func TestAMessageThatDoesNotGoOnFailsItsTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startFake(t, &fakes{speaks: speaker(1, "RIGHT\n", func(id string) string {
			if id == "next" {
				return right + "\n"
			}
			return `{"jsonrpc":"2.0","id":ID,"result":{"status":"succeeded","value":`
		})}, func(c *rpc.Config) { c.WriteTimeout = 10 * time.Second })
		b.wait("the task", b.push("t", task.IsolateNone))
		b.wait("the next task", b.push("next", task.IsolateNone))
		if got := b.lastFailure(); !strings.Contains(got, "did not end it within 10s") || b.count(task.Succeeded) != 1 {
			t.Errorf("%q, %d succeeded", got, b.count(task.Succeeded))
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnUnrecognisedAnswerToInitializeIsAStartFailure: the failure names the form of
// the answer at once, not after the start timeout.
func TestAnUnrecognisedAnswerToInitializeIsAStartFailure(t *testing.T) {
	for first, want := range map[string]string{
		"Starting…RIGHT\n":                                   "text stands in front of it on its line",
		"Content-Length: 1\r\n\r\nRIGHT":                     "Content-Length header",
		"{\"id\":1,\"result\":{\"status\":\"succeeded\"}}\n": `no "jsonrpc":"2.0"`,
		"\uFEFFRIGHT\n":                                      "",
		"sent RIGHT\nRIGHT\n":                                "",
		"RIGHT":                                              "",
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			speaks := speaker(1, strings.ReplaceAll(first, "sent RIGHT", `sent {"jsonrpc":"2.0","id":1,"result":{}}`), func(string) string { return right + "\n" })
			b := startFake(t, &fakes{speaks: speaks}, func(*rpc.Config) {})
			if want == "" {
				b.wait("a task", b.push("t", task.IsolateNone))
				if err := b.stop(); err != nil {
					t.Errorf("%q: %v", first, err)
				}
				return
			}
			err := <-b.ended
			if err == nil || !strings.Contains(err.Error(), want) || time.Since(began) > 2*time.Second {
				t.Errorf("%q: after %v: %v", first, time.Since(began), err)
			}
			b.ended <- err
			_ = b.stop()
		})
	}
}

// TestARequestThatCannotBeReadIsRefused: the request gets an answer, because the worker
// waits for one.
func TestARequestThatCannotBeReadIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan string, 10)
		speaks := speaker(1, "RIGHT\n", func(string) string {
			return `fetching{"jsonrpc":"2.0","id":"q","method":"channel/get","params":{"delivery":"run.1","key":"a"}}` + "\n" +
				`{"jsonrpc":"2.0","id":"p","method":"channel/get","params":{"delivery":"run.1","key":NaN}}` + "\n‹2s›" + right + "\n"
		})
		b := startFake(t, &fakes{speaks: func(in, out net.Conn) {
			speaks(tee{in, answers}, out)
		}}, func(*rpc.Config) {})
		b.wait("the task", b.push("t", task.IsolateNone))
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		close(answers)
		var all strings.Builder
		for a := range answers {
			all.WriteString(a)
		}
		for _, want := range []string{`"id":"q","error":{"code":-32600,"message":"the request is not a valid message: text stands in front`, `"id":"p","error":{"code":-32600`} {
			if !strings.Contains(all.String(), want) {
				t.Errorf("no %s in %s", want, all.String())
			}
		}
	})
}

// tee records what is read from a connection.
type tee struct {
	net.Conn
	copies chan string
}

func (c tee) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.copies <- string(b[:n])
	}
	return n, err
}
