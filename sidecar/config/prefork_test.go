package config

import (
	"runtime"
	"strings"
	"testing"
)

func TestPrefork(t *testing.T) {
	linux := runtime.GOOS == "linux"
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want bool
	}{
		{"by default where it can be", nil, []string{"--graflow"}, linux},
		{"switched off", []string{"SIDECAR_PREFORK=false"}, []string{"--graflow"}, false},
		{"not for other workers", nil, []string{"--", "w"}, false},
		{"switched off for other workers", []string{"SIDECAR_PREFORK=0"}, []string{"--", "w"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s := mustLoad(t, c.env, c.args...); s.Prefork != c.want {
				t.Errorf("got %v, want %v", s.Prefork, c.want)
			}
		})
	}
	if _, err := load(t, []string{"SIDECAR_PREFORK=true"}, "--", "w"); err == nil || !strings.Contains(err.Error(), "it goes with SIDECAR_GRAFLOW only") {
		t.Errorf("for another worker: %v", err)
	}
	if _, err := load(t, []string{"SIDECAR_PREFORK=perhaps"}, "--graflow"); err == nil || !strings.Contains(err.Error(), `SIDECAR_PREFORK is "perhaps"`) {
		t.Errorf("no boolean: %v", err)
	}
}
