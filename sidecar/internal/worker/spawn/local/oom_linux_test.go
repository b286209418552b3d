package local

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheCounterOfAControlGroup(t *testing.T) {
	for _, c := range []struct {
		name, self string
		files      map[string]string
		want       int64 // -1 for an error
	}{
		{"version 2", "0::/a/b\n", map[string]string{"a/b/memory.events": "low 0\noom 5\noom_kill 3\noom_group_kill 1\n", "memory.events": "oom_kill 9\n"}, 3},
		{"version 2 in a container", "0::/../../elsewhere\n", map[string]string{"memory.events": "oom_kill 4\n"}, 4},
		{"version 2, the root", "0::/\n", nil, -1},
		{"version 1", "5:cpu,cpuacct:/x\n4:memory:/a\n0::/\n", map[string]string{"memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}, 2},
		{"version 1 in a container", "4:memory:/docker/123\n", map[string]string{"memory/memory.oom_control": "oom_kill 6\n"}, 6},
		{"version 1 of an old kernel", "4:memory:/\n", map[string]string{"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, -1},
		{"no number", "0::/\n", map[string]string{"memory.events": "oom_kill many\n"}, -1},
		{"another text", "none\n", nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			self := filepath.Join(root, "self")
			if err := os.WriteFile(self, []byte(c.self), 0o644); err != nil {
				t.Fatal(err)
			}
			for name, text := range c.files {
				path := filepath.Join(root, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := controlGroup{root: root, self: self}.oomKills()
			if err != nil {
				got = -1
			}
			if got != c.want {
				t.Errorf("%d (%v), want %d", got, err, c.want)
			}
		})
	}
}
