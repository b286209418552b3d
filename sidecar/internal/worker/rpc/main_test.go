package rpc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/protocol"
)

// The test binary is its own worker: with this variable it runs one entry of the menu
// instead of the tests.
const roleVariable = "PROCESS_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play, ok := menu[role]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such role:", role)
			os.Exit(99)
		}
		play()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// record is the record of a test's task, with what the worker is to do.
type record struct {
	TaskID string `json:"task_id"`
	Do     string `json:"do"`
	Path   string `json:"path"`
}

// menu has the workers that the tests run.
var menu = map[string]func(){
	"good":       func() { serve(1) },
	"concurrent": func() { serve(4) },

	// Start-up.
	"exits at once": func() {
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		os.Exit(3)
	},
	"prints and exits": func() { fmt.Println("usage: some-tool FILE") },
	"echoes":           func() { eachLine(func(line string) { fmt.Println(line) }) },
	"floods before its answer": func() {
		for {
			if _, err := fmt.Println("y"); err != nil {
				return
			}
		}
	},
	"never answers": func() { eachLine(func(string) {}) },
	"speaks version 9": func() {
		raw(func(id json.RawMessage, method string, _ json.RawMessage) {
			if method == protocol.MethodInitialize {
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":9,"worker":{"name":"x","version":"1"},"concurrency":1,"capabilities":{}}}`+"\n", id)
			}
		})
	},
	"refuses to start": func() {
		raw(func(id json.RawMessage, _ string, _ json.RawMessage) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"Graflow is not installed"}}`+"\n", id)
		})
	},
	"prints a banner first": func() {
		fmt.Println("*** Welcome ***")
		fmt.Println(`{"not":"a message"}`)
		raw(answering(func(id json.RawMessage, _ record) { succeed(id) }))
	},
	"begins with a byte order mark": func() {
		fmt.Print("\uFEFF")
		raw(answering(func(id json.RawMessage, _ record) { succeed(id) }))
	},

	// Tasks.
	"answers twice": func() {
		raw(answering(func(id json.RawMessage, _ record) { succeed(id); succeed(id) }))
	},
	"answers an unknown id": func() {
		raw(answering(func(id json.RawMessage, _ record) { succeed(json.RawMessage("424242")); succeed(id) }))
	},
	"answers with garbage": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":nope}}`+"\n", id)
		}))
	},
	"answers garbage without an id": func() {
		raw(answering(func(json.RawMessage, record) { fmt.Println(`{"jsonrpc":"2.0",!!!`) }))
	},
	"answers a line that is too long": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":"%s"}}`+"\n", id, strings.Repeat("x", 3<<20))
		}))
	},
	"answers with an error": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"I am confused"}}`+"\n", id)
		}))
	},
	"dies in mid-line": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"resu`, id)
			os.Exit(1)
		}))
	},
	"exits after its first task": func() {
		raw(answering(func(id json.RawMessage, _ record) { succeed(id); os.Exit(0) }))
	},
	"reads no more and is killed": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			succeed(id)
			time.Sleep(time.Second / 2) // the next task arrives
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}))
	},
	"closes its stdout": func() {
		raw(answering(func(json.RawMessage, record) {
			_ = syscall.Close(1)
			time.Sleep(time.Hour)
		}))
	},
	"closes its stdin": func() {
		// It answers initialize itself and reads no more.
		fmt.Println(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"worker":{"name":"x","version":"1"},"concurrency":1,"capabilities":{}}}`)
		_ = os.Stdin.Close()
		time.Sleep(time.Hour)
	},
	"stops reading": func() {
		fmt.Println(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1,"worker":{"name":"x","version":"1"},"concurrency":1,"capabilities":{}}}`)
		time.Sleep(time.Hour)
	},
	"floods both streams": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			for range 2000 {
				fmt.Println(strings.Repeat("o", 100))
				fmt.Fprintln(os.Stderr, strings.Repeat("e", 100))
			}
			fmt.Println(strings.Repeat("long", 1<<20))
			succeed(id)
		}))
	},
	"leaves a grandchild": func() {
		raw(answering(func(id json.RawMessage, r record) {
			cmd := exec.Command("sleep", "600")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // it keeps the pipes open
			if r.Do == "die, and it has left" {
				cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			}
			if err := cmd.Start(); err != nil {
				panic(err)
			}
			if err := os.WriteFile(r.Path, fmt.Append(nil, cmd.Process.Pid), 0o600); err != nil {
				panic(err)
			}
			if strings.HasPrefix(r.Do, "die") {
				os.Exit(1)
			}
			succeed(id)
		}))
	},
	"ignores everything": func() {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		answer := answering(func(json.RawMessage, record) {})
		raw(func(id json.RawMessage, method string, params json.RawMessage) {
			if method != protocol.MethodShutdown {
				answer(id, method, params)
			}
		})
		time.Sleep(time.Hour) // also after the end of stdin
	},
	"stops answering": func() { // it only reads
		raw(answering(func(json.RawMessage, record) { time.Sleep(time.Hour) }))
	},
	"floods stdout for ever": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			succeed(id)
			go func() {
				for {
					fmt.Println(strings.Repeat("o", 100))
				}
			}()
		}))
	},
	"floods stderr for ever": func() {
		raw(answering(func(id json.RawMessage, _ record) {
			go func() {
				for {
					fmt.Fprintln(os.Stderr, strings.Repeat("e", 100))
				}
			}()
			succeed(id)
		}))
	},
	"floods one line for ever": func() {
		raw(answering(func(json.RawMessage, record) {
			fmt.Print(`{"jsonrpc":"2.0","method":"log","params":{"message":"`)
			for {
				fmt.Print(strings.Repeat("x", 1<<16))
			}
		}))
	},
	"answers after a cancel": func() {
		var running json.RawMessage
		answer := answering(func(id json.RawMessage, _ record) { running = id })
		raw(func(id json.RawMessage, method string, params json.RawMessage) {
			if method == protocol.MethodCancel {
				time.Sleep(20 * time.Millisecond)
				succeed(running)
			}
			answer(id, method, params)
		})
	},
	"answers a cancel twice": func() {
		var running json.RawMessage
		answer := answering(func(id json.RawMessage, _ record) { running = id })
		raw(func(id json.RawMessage, method string, params json.RawMessage) {
			if method == protocol.MethodCancel {
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32800,"message":"cancelled"}}`+"\n", running)
				succeed(running)
			}
			answer(id, method, params)
		})
	},
	"ignores SIGTERM": func() { // and the end of stdin, once it has had a task
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		answer := answering(func(id json.RawMessage, _ record) { succeed(id) })
		raw(func(id json.RawMessage, method string, params json.RawMessage) {
			if method != protocol.MethodShutdown {
				answer(id, method, params)
			}
		})
		time.Sleep(time.Hour)
	},
	"says draining and stays": func() {
		raw(func() func(json.RawMessage, string, json.RawMessage) {
			answer := answering(func(id json.RawMessage, _ record) {
				fmt.Println(`{"jsonrpc":"2.0","method":"$/draining","params":{}}`)
				succeed(id)
			})
			return func(id json.RawMessage, method string, params json.RawMessage) {
				if method != protocol.MethodShutdown {
					answer(id, method, params)
				}
			}
		}())
		time.Sleep(time.Hour)
	},
	"waits and never resumes": func() {
		raw(answering(func(id json.RawMessage, r record) {
			for range 3 { // repetitions change nothing
				fmt.Printf(`{"jsonrpc":"2.0","method":"$/waiting","params":{"delivery":%q}}`+"\n", "run."+strings.TrimPrefix(r.TaskID, "task-"))
			}
			fmt.Println(`{"jsonrpc":"2.0","method":"$/waiting","params":{"delivery":"nobody's"}}`)
			fmt.Println(`{"jsonrpc":"2.0","method":"$/waiting","params":[]}`)
			succeed(id)
			fmt.Printf(`{"jsonrpc":"2.0","method":"$/resumed","params":{"delivery":%q}}`+"\n", "run."+strings.TrimPrefix(r.TaskID, "task-"))
		}))
	},
	"drains after its first task": func() {
		raw(answering(func(id json.RawMessage, r record) {
			if r.Do == "last" {
				fmt.Println(`{"jsonrpc":"2.0","method":"$/draining","params":{}}`)
			}
			succeed(id)
		}))
	},
	"logs": func() {
		raw(answering(func(id json.RawMessage, r record) {
			fmt.Fprintf(os.Stderr, "on stderr of %s\n", r.TaskID)
			fmt.Fprintln(os.Stderr, `{"level":"error","message":"as JSON","rows":3,"pid":0}`)
			fmt.Println("on stdout")
			fmt.Println(`{"jsonrpc":"2.0","method":"log","params":{"level":"warn","message":"by the protocol","delivery":"nobody's","fields":{"rows":12345678901234567890,"slot":9}}}`)
			fmt.Println(`{"jsonrpc":"2.0","method":"$/something-new","params":{}}`)
			fmt.Println(`{"jsonrpc":"2.0","id":"q","method":"no/such","params":{}}`)
			succeed(id)
		}))
	},
}

// serve is a correct worker on the SDK, whose records say what to do.
func serve(concurrency int) {
	err := protocol.Serve(context.Background(), func(ctx context.Context, t *protocol.Task) (any, error) {
		var r record
		if err := t.Decode(&r); err != nil {
			return nil, err
		}
		switch r.Do {
		case "fail":
			return nil, errors.New("it did not work")
		case "panic":
			panic("where it happened")
		case "retry":
			return nil, protocol.Retryable(errors.New("not now"))
		case "die":
			os.Exit(7)
		case "segfault":
			_ = syscall.Kill(os.Getpid(), syscall.SIGSEGV)
			select {}
		case "wait":
			<-ctx.Done()
			return nil, ctx.Err()
		case "hang":
			select {}
		case "gate": // until the file exists
			if err := os.WriteFile(r.Path+".started", nil, 0o600); err != nil {
				return nil, err
			}
			for ctx.Err() == nil {
				if _, err := os.Stat(r.Path); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
		}
		return map[string]string{"task": r.TaskID}, nil
	}, protocol.WithConcurrency(concurrency))
	if err != nil {
		os.Exit(1)
	}
}

func eachLine(f func(line string)) {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		f(strings.TrimSuffix(line, "\n"))
	}
}

// raw is a worker that writes the protocol itself.
func raw(handle func(id json.RawMessage, method string, params json.RawMessage)) {
	eachLine(func(line string) {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			panic(err)
		}
		handle(m.ID, m.Method, m.Params)
	})
}

// answering answers initialize and calls f for every task.
func answering(f func(id json.RawMessage, r record)) func(json.RawMessage, string, json.RawMessage) {
	return func(id json.RawMessage, method string, params json.RawMessage) {
		switch method {
		case protocol.MethodInitialize:
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"worker":{"name":"menu","version":"1"},"concurrency":1,"capabilities":{}}}`+"\n", id)
		case protocol.MethodPing:
			fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{}}`+"\n", id)
		case protocol.MethodShutdown:
			os.Exit(0)
		case protocol.MethodTaskRun:
			var p struct {
				Record record `json:"record"`
			}
			if err := json.Unmarshal(params, &p); err != nil {
				panic(err)
			}
			f(id, p.Record)
		}
	}
}

func succeed(id json.RawMessage) {
	fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded"}}`+"\n", id)
}
