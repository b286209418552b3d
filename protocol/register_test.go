package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
)

// onlyThese runs a test with no other tasks registered.
func onlyThese(t *testing.T, register func()) {
	t.Helper()
	tasks.mu.Lock()
	before := tasks.list
	tasks.list = nil
	tasks.mu.Unlock()
	t.Cleanup(func() {
		tasks.mu.Lock()
		defer tasks.mu.Unlock()
		tasks.list = before
	})
	register()
}

type rows struct {
	Rows  []float64 `json:"rows"`
	Limit *int
	Unit  string `json:"unit,omitempty"`
}

func TestRegister(t *testing.T) {
	onlyThese(t, func() {
		Register("etl.*", func(ctx Context, in rows) (map[string]any, error) {
			ctx.Progress(1, "done")
			ctx.Log(slog.LevelInfo, "in there")
			return map[string]any{"n": len(in.Rows), "limit": in.Limit, "unit": in.Unit, "delivery": ctx.Task().Delivery}, nil
		})
		Register("etl.load", func(Context, struct{}) (string, error) { return "the exact one", nil })
		Register("*", func(_ Context, in map[string]int) (int, error) { return in["a"], nil })
		Register("fails", func(Context, struct{}) (struct{}, error) { return struct{}{}, errors.New("no luck") })
		Register("quiet", func(ctx Context, _ struct{}) (struct{}, error) { return struct{}{}, ctx.Err() })
	})
	synctest.Test(t, func(t *testing.T) {
		c := start(t, nil)
		c.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}`)
		if m := c.message(); !strings.HasSuffix(string(m.Result), `"inputs":{"*":[],"etl.*":["rows","limit","unit"]}}`) {
			t.Errorf("initialize: %s", m.Result)
		}
		for id, x := range []struct{ record, inputs, want string }{
			{`{"task_id":"etl.a"}`, `{"rows":{"value":[1,2]}}`, `{"status":"succeeded","value":{"delivery":"r.7","limit":null,"n":2,"unit":""}}`},
			{`{"task_id":"etl.a","params":{"rows":[1],"limit":3}}`, `{"rows":{"value":[1,2]},"unit":{"value":"m"}}`, `{"status":"succeeded","value":{"delivery":"r.7","limit":3,"n":1,"unit":"m"}}`},
			{`{"task_id":"etl.a","params":[1]}`, `{"rows":{"value":[]}}`, `{"status":"succeeded","value":{"delivery":"r.7","limit":null,"n":0,"unit":""}}`},
			{`{"task_id":"etl.a"}`, `{}`, "input rows is missing: the channel has neither rows.__result__ nor rows"},
			{`{"task_id":"etl.a"}`, `{"rows":{"valueText":"[NaN]"}}`, "input rows is not JSON that Go reads"},
			{`{"task_id":"etl.a"}`, `{"rows":{"value":{}}}`, "inputs: json: cannot unmarshal"},
			{`{"task_id":"etl.load"}`, `null`, `{"status":"succeeded","value":"the exact one"}`},
			{`{"task_id":"other","params":{"a":5}}`, `null`, `{"status":"succeeded","value":5}`},
			{`{"task_id":"other"}`, `null`, `{"status":"succeeded","value":0}`},
			{`{"task_id":"other"}`, `{"a":{"value":6}}`, `{"status":"succeeded","value":6}`},
			{`{"task_id":"other","params":{"a":7}}`, `{"a":{"value":6},"b":{"value":1}}`, `{"status":"succeeded","value":7}`},
			{`{"task_id":"other"}`, `{"a":{"value":"6"}}`, "inputs: json: cannot unmarshal"},
			{`{"task_id":"other","params":[]}`, `null`, "params: json: cannot unmarshal"},
			{`{"task_id":"fails"}`, `null`, "no luck"},
			{`{"task_id":"quiet"}`, `null`, `{"status":"succeeded"}`},
		} {
			c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"task/run","params":{"delivery":"r.7","record":%s,"inputs":%s}}`, id+1, x.record, x.inputs))
			m := c.message()
			for m.IsNotification() {
				m = c.message()
			}
			if got := string(m.Result); got != x.want && !(strings.HasPrefix(got, `{"status":"failed"`) && strings.Contains(got, x.want)) {
				t.Errorf("%s with %s:\n got %s\nwant %s", x.record, x.inputs, got, x.want)
			}
		}
		c.shutdown()
	})
}

func TestRegisterNoneFits(t *testing.T) {
	onlyThese(t, func() { Register("a", func(Context, struct{}) (int, error) { return 1, nil }) })
	serve(t, nil, func(t *testing.T, c *conn) {
		c.run(1, `{"task_id":"b"}`)
		if m := c.message(); !strings.Contains(string(m.Result), `this worker has no task \"b\"; it has a`) {
			t.Errorf("got %s", m.Result)
		}
		c.shutdown()
	})
}

func TestRegisterNothing(t *testing.T) {
	onlyThese(t, func() {})
	if err := Serve(t.Context(), nil, WithIO(strings.NewReader(""), &strings.Builder{})); !errors.Is(err, errNoTasks) {
		t.Errorf("got %v", err)
	}
}

func TestRegisterTwice(t *testing.T) {
	onlyThese(t, func() {
		Register("a", func(Context, struct{}) (int, error) { return 1, nil })
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		Register("a", func(Context, struct{}) (int, error) { return 1, nil })
	})
}

type embedded struct {
	A int
	b int //nolint:unused // what is not exported is no input
}

func TestFieldsOf(t *testing.T) {
	type all struct {
		embedded
		Plain  int
		Tagged int `json:"other_name"`
		Zero   int `json:",omitzero"`
		Not    int `json:"-"`
		Ptr    *string
	}
	for want, v := range map[string]any{
		"[{a false} {plain false} {other_name false} {zero true} {ptr true}]": all{},
		"[]": json.RawMessage{},
	} {
		fields := fieldsOf(reflect.TypeOf(v))
		if got := fmt.Sprint(fields); got != want {
			t.Errorf("%T: got %s, want %s", v, got, want)
		}
	}
}
