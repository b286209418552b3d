package config

import (
	"errors"
	"strings"
	"testing"
)

func TestModes(t *testing.T) {
	s := mustLoad(t, []string{"SIDECAR_REPLICAS=3"}, "--mode", "supervise", "--replicas", "2", "--", "w")
	if s.App.Mode != ModeSupervise || s.App.Replicas != 2 {
		t.Errorf("%s, %d replicas", s.App.Mode, s.App.Replicas)
	}
	// What only tunes may be there for another mode's sake.
	mustLoad(t, []string{"SIDECAR_MODE=supervise", "SIDECAR_RETRY_BASE=2s", "SIDECAR_WORKER_PING_INTERVAL=3s"}, worker...)
}

func TestWhatDoesNotGoWithAMode(t *testing.T) {
	for _, c := range []struct {
		env   []string
		args  []string
		usage bool // 64, and not 78
		want  string
	}{
		{nil, []string{"--mode", "exec", "--graflow"}, true, "--mode is exec, and --graflow goes with rpc only"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_GRAFLOW=1"}, nil, false, "sidecar run --mode supervise -- python -m graflow.worker.main"},
		{nil, []string{"--replicas", "2", "--", "w"}, true, "--replicas goes with --mode supervise only"},
		{[]string{"SIDECAR_REPLICAS=2"}, []string{"--mode", "exec", "--", "w"}, false, "in mode exec MAX_CONCURRENT_TASKS says how many"},
		{[]string{"SIDECAR_MODE=supervise", "REDIS_ADDRS=a:1,b:2"}, worker, false, "REDIS_ADDRS does not go with --mode supervise"},
		{nil, []string{"--mode=supervise", "--task-timeout=3", "--", "w"}, true, "--task-timeout does nothing with --mode supervise"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_MAX_ATTEMPTS=5"}, worker, false, "SIDECAR_MAX_ATTEMPTS does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_QUEUE_SIDE=right"}, worker, false, "SIDECAR_QUEUE_SIDE does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_QUEUE_KEY=q"}, worker, false, "SIDECAR_QUEUE_KEY does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_RESULT_TTL=1h"}, worker, false, "SIDECAR_RESULT_TTL does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_DEAD_LETTER_MAX=1"}, worker, false, "SIDECAR_DEAD_LETTER_MAX does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_DEAD_LETTER_MAX_AGE=1h"}, worker, false, "SIDECAR_DEAD_LETTER_MAX_AGE does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_SPOOL_DIR=/x"}, worker, false, "SIDECAR_SPOOL_DIR does nothing"},
		{[]string{"SIDECAR_MODE=supervise", "SIDECAR_REPLICAS=0"}, worker, false, `SIDECAR_REPLICAS is "0", and must be a whole number from 1 to 1024`},
		{nil, []string{"--mode", "supervise"}, true, "no worker: give its command after --"},
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
