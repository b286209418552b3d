package subproc

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestAWorkersOwnJSONIsMerged(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"text", `plain words`, `"level":"INFO","msg":"worker stderr","line":"plain words","slot":1`},
		{"its message, level and members",
			`{"level":"warning","message":"slow","rows":12,"ok":true,"where":{"a":[1,2]},"time":"yesterday"}`,
			`"level":"WARN","msg":"worker stderr","line":"slow","rows":12,"ok":true,"where":{"a":[1,2]},"worker_time":"yesterday","slot":1`},
		{"Python's level numbers", `{"levelno":40,"level":40,"event":"broken"}`, `"level":"ERROR","msg":"worker stderr","levelno":40,"line":"broken","slot":1`},
		{"a level nobody knows", `{"level":"loud","msg":"x"}`, `"level":"INFO","msg":"worker stderr","worker_level":"loud","line":"x","slot":1`},
		{"it hides nothing of ours", `{"msg":"x","slot":99,"task_id":"y"}`, `"msg":"worker stderr","line":"x","worker_slot":99,"worker_task_id":"y","slot":1`},
		{"big numbers keep their digits", `{"msg":"x","n":12345678901234567890}`, `"n":12345678901234567890`},
		{"a message that is no text", `{"msg":{"a":1}}`, `"worker_msg":{"a":1}`},
		{"no message", `{"a":1}`, `"msg":"worker stderr","a":1,"slot":1`},
		{"not JSON", `{"a":1`, `"line":"{\"a\":1"`},
		{"two of them", `{"a":1} {"b":2}`, `"line":"{\"a\":1} {\"b\":2}"`},
		{"a list", `[1]`, `"line":"[1]"`},
		{"too many members", `{` + strings.Repeat(`"a":1,`, 40) + `"b":1}`, `"line":"{\"a\":1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
			LogLines(strings.NewReader(c.line+"\n"), log, "worker stderr", new(Tail), func() []any { return []any{"slot", 1} })
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("got  %s\nwant %s", out.String(), c.want)
			}
		})
	}
}

func TestMergedValuesAreTextInText(t *testing.T) {
	var out bytes.Buffer
	LogLines(strings.NewReader(`{"msg":"x","where":{"a":[1,2]}}`+"\n"), slog.New(slog.NewTextHandler(&out, nil)), "worker stderr", new(Tail), nil)
	if want := `where="{\"a\":[1,2]}"`; !strings.Contains(out.String(), want) {
		t.Errorf("got %s", out.String())
	}
}

func FuzzMerged(f *testing.F) {
	for _, seed := range []string{`{"level":"info","msg":"x"}`, `{"a":`, `{}`, `{"a":1}}`, "{\"\xff\":1}", `{"level":1e9}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		var out bytes.Buffer
		LogLines(strings.NewReader(line), slog.New(slog.NewJSONHandler(&out, nil)), "m", new(Tail), nil)
		if strings.Contains(out.String(), "!ERROR") {
			t.Errorf("%q: %s", line, out.String())
		}
	})
}
