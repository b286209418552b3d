package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// told is a kind in one line.
func told(k Kind) string {
	return fmt.Sprintf("%s %s %d %q graflow=%t", k.Pattern, k.Mode, k.Slots, k.Worker.Command, k.Worker.Graflow)
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want []string
	}{
		{
			"flags",
			[]string{"MAX_CONCURRENT_TASKS=3"},
			[]string{"--worker", "etl.*=./etl", "--worker", "*=graflow"},
			[]string{`etl.* rpc 3 ["./etl"] graflow=false`, `* rpc 3 ["python3"] graflow=true`},
		},
		{
			"slots", nil,
			[]string{"--worker-slots", "etl.*=2", "--worker", "etl.*=./etl", "--worker=*=graflow", "--worker-slots=*=8"},
			[]string{`etl.* rpc 2 ["./etl"] graflow=false`, `* rpc 8 ["python3"] graflow=true`},
		},
		{
			"words", nil,
			[]string{"--worker", `a = ./etl --name 'two words' "a \"b\"" c\ d $HOME # x`, "--worker", "b=exec:jq -c .params", "--worker", `c=exec: ./graflow`},
			[]string{`a rpc 4 ["./etl" "--name" "two words" "a \"b\"" "c d" "$HOME" "#" "x"] graflow=false`, `b exec 4 ["jq" "-c" ".params"] graflow=false`, `c exec 4 ["./graflow"] graflow=false`},
		},
		{
			"an = in a pattern", nil,
			[]string{"--worker", `a\=b=./w x=y`, "--worker-slots", `a\=b=7`},
			[]string{`a\=b rpc 7 ["./w" "x=y"] graflow=false`},
		},
		{
			"lines",
			[]string{"SIDECAR_WORKERS=etl.*=./etl\n\n  *=graflow  \n", "SIDECAR_WORKER_SLOTS=etl.*=1\n*=2"},
			nil,
			[]string{`etl.* rpc 1 ["./etl"] graflow=false`, `* rpc 2 ["python3"] graflow=true`},
		},
		{
			"JSON",
			[]string{`SIDECAR_WORKERS=[{"pattern":"img.*","command":["./r","a b\nc"],"mode":"exec","slots":9},{"pattern":"*","graflow":true}]`},
			nil,
			[]string{`img.* exec 9 ["./r" "a b\nc"] graflow=false`, `* rpc 4 ["python3"] graflow=true`},
		},
		{
			"a flag beats the variable",
			[]string{"SIDECAR_WORKERS=a=./a"},
			[]string{"--worker", "b=./b"},
			[]string{`b rpc 4 ["./b"] graflow=false`},
		},
		{"a pattern like a list", nil, []string{"--worker", "[a]=./w"}, []string{`[a] rpc 4 ["./w"] graflow=false`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			s := mustLoad(t, c.env, c.args...)
			for _, w := range s.Adapter() {
				w.Command = []string{"python3"}
			}
			for _, k := range s.App.Kinds {
				got = append(got, told(k))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// What all workers are told reaches each kind, and where Redis is only those
// that are Graflow's.
func TestKindsAreToldWhatAllAre(t *testing.T) {
	s := mustLoad(t, []string{"SIDECAR_KILL_GRACE=3s", "SIDECAR_MAX_LENT=2", "REDIS_HOST=h", "X=y", "REDIS_TLS_SERVER_NAME="},
		"--worker", "a=./a", "--worker", "*=graflow")
	a, g := s.App.Kinds[0].Worker, s.App.Kinds[1].Worker
	for _, w := range []Worker{a, g} {
		if w.KillGrace.Seconds() != 3 || w.MaxLent != 2 || !slices.Contains(w.Env, "X=y") {
			t.Errorf("%+v", w)
		}
	}
	if !slices.Contains(a.Env, "REDIS_HOST=h") || slices.Contains(g.Env, "REDIS_HOST=h") {
		t.Errorf("the adapter's comes from app: %q, %q", a.Env, g.Env)
	}
	if !mustLoad(t, nil, "--worker", "*=graflow").Prefork {
		t.Error("the adapter is not forked")
	}
}

func TestKindsThatAreNone(t *testing.T) {
	for _, c := range []struct {
		env   []string
		args  []string
		usage bool
		want  string
	}{
		{nil, []string{"--worker", "etl"}, true, `--worker: "etl" is not PATTERN=COMMAND, as in etl.*=./etl`},
		{nil, []string{"--worker", "=./etl"}, true, `--worker: a pattern is empty; * takes every task`},
		{nil, []string{"--worker", "a="}, true, `--worker: the pattern "a" has no command`},
		{nil, []string{"--worker", "a=''"}, true, `--worker: the pattern "a" has no command`},
		{nil, []string{"--worker", "a=exec:"}, true, `--worker: the pattern "a" has no command`},
		{nil, []string{"--worker", "a=./x 'y"}, true, `--worker: the command line "./x 'y": unterminated single-quoted string`},
		{nil, []string{"--worker", "a=exec:graflow"}, true, "leave exec: away"},
		{nil, []string{"--worker", "*=./a", "--worker", "b=./b"}, true, `pattern "b" stands behind "*", which takes every task: put it first`},
		{[]string{"SIDECAR_WORKERS=a=./a\na=./b"}, nil, false, `SIDECAR_WORKERS: pattern "a" is there twice`},
		{[]string{"SIDECAR_WORKERS=[{]"}, nil, false, "SIDECAR_WORKERS: the JSON list: invalid character"},
		{[]string{`SIDECAR_WORKERS=[{"patern":"a"}]`}, nil, false, `unknown field "patern"`},
		{[]string{`SIDECAR_WORKERS=[{"pattern":"a"}]`}, nil, false, "needs a command or graflow, one of the two"},
		{[]string{`SIDECAR_WORKERS=[{"pattern":"a","command":["x"],"mode":"supervise"}]`}, nil, false, `has mode "supervise", and may have rpc or exec`},
		{[]string{`SIDECAR_WORKERS=[{"pattern":"a","graflow":true,"mode":"exec"}]`}, nil, false, "graflow goes with mode rpc only"},
		{[]string{`SIDECAR_WORKERS=[{"pattern":"a","command":["x"],"slots":-1}]`}, nil, false, "has -1 slots, and may have 1 to 4096"},
		{[]string{`SIDECAR_WORKERS=[{"pattern":"a","command":["x"]}] x`}, nil, false, "something behind the JSON list"},
		{nil, []string{"--worker", "a=./a", "--worker-slots", "b=2"}, true, `--worker-slots: no worker has the pattern "b"`},
		{nil, []string{"--worker", "a=./a", "--worker-slots", "a=0"}, true, `--worker-slots has "a=0", and must be PATTERN=N, N from 1 to 4096`},
		{nil, []string{"--worker", "a=./a", "--worker-slots", "2"}, true, `--worker-slots has "2", and must be`},
		{nil, []string{"--worker-slots", "a=2", "--", "w"}, true, "--worker-slots needs --worker"},
		{nil, []string{"--worker", "a=./a", "--", "./w", "-x"}, true, `as in --worker '*=./w -x'`},
		{nil, []string{"--worker", "a=./a", "--graflow"}, true, "--worker and --graflow exclude each other"},
		{nil, []string{"--worker", "a=./a", "--mode", "exec"}, true, "--mode is exec, and --worker says for each kind"},
		{[]string{"SIDECAR_WORKERS=*=graflow", "REDIS_ADDRS=a:1"}, nil, false, "REDIS_ADDRS does not go with --graflow"},
		{[]string{"SIDECAR_WORKERS=a=./a", "SIDECAR_PREFORK=1"}, nil, false, "SIDECAR_PREFORK is for Graflow's workers"},
	} {
		t.Run(c.want, func(t *testing.T) {
			_, err := load(t, c.env, c.args...)
			var usage *UsageError
			var bad *Error
			if is := errors.As(err, &usage); is != c.usage || (!is && !errors.As(err, &bad)) {
				t.Fatalf("%T %v", err, err)
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v, want one line with %q", err, c.want)
			}
		})
	}
}
