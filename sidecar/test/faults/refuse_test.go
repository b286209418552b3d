//go:build faults

package faults

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestRefusals starts sidecars with errors that waiting does not cure. Each one ends at once,
// with one line that says what to do, and with the exit status for its error.
func TestRefusals(t *testing.T) {
	t.Parallel()
	cluster := redistest.Start(t, "--cluster-enabled", "yes")
	node := cluster.Client()
	other := redistest.Start(t, "--cluster-enabled", "yes")
	for i, c := range []*redistest.Instance{cluster, other} {
		if err := c.Client().Do(t.Context(), "cluster", "addslotsrange", i*8192, i*8192+8191).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := node.ClusterMeet(t.Context(), other.Host, strings.TrimPrefix(other.Addr, other.Host+":")).Err(); err != nil {
		t.Fatal(err)
	}
	wait.Within(t, 20*time.Second, "a Cluster that serves", func() bool {
		return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	server := redistest.Start(t)
	c := server.Client()
	for _, args := range [][]any{
		{"acl", "setuser", "known", "on", ">secret", "~*", "+@all"},
		{"acl", "setuser", "weak", "on", ">secret", "~*", "+@all", "-@write", "-@scripting"},
		{"set", "odd:queue", "a string"},
		{"set", "odder:sidecar:runs", "a string"},
		{"sadd", "served:sidecar:runs", "a"},
		{"set", "served:sidecar:alive:a", "1"},
	} {
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	locked := redistest.Start(t, "--requirepass", "secret")
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	url := func(login, db string) string { return "REDIS_URL=redis://" + login + server.Addr + "/" + db }
	const refused, misconfigured, usage = 69, 78, 64
	cases := []struct {
		name   string
		where  []string
		args   []string // in place of a worker
		status int
		says   string
	}{
		{"no password", []string{"REDIS_URL=" + locked.URL}, nil, refused, "NOAUTH"},
		{"a wrong password", []string{url("known:wrong@", "0")}, nil, refused, "WRONGPASS"},
		{"no permission", []string{url("weak:secret@", "0")}, nil, refused, "permissions"},
		{"a database that is not there", []string{url("", "99")}, nil, refused, "DB index is out of range"},
		{"a queue that is none", []string{url("", "0"), "REDIS_KEY_PREFIX=odd"}, nil, refused, "WRONGTYPE"},
		{"a key of ours that is another's", []string{url("", "0"), "REDIS_KEY_PREFIX=odder"}, nil, refused, "WRONGTYPE"},
		{"one node of a Cluster", []string{"REDIS_URL=" + cluster.URL}, nil, refused, "name its nodes in REDIS_ADDRS"},
		{"a Cluster and no hash tag", []string{"REDIS_ADDRS=" + cluster.Addr}, nil, misconfigured, `key prefix "graflow" has no hash tag`},
		{"a Cluster and a queue in another slot", []string{"REDIS_ADDRS=" + cluster.Addr, "REDIS_KEY_PREFIX={g}", "SIDECAR_QUEUE_KEY=jobs"}, nil, misconfigured, `use for example {g}:jobs`},
		{"another queue of the prefix", []string{url("", "0"), "REDIS_KEY_PREFIX=served", "SIDECAR_QUEUE_KEY=jobs"}, nil, refused, "serve the queue served:queue, and this one is for jobs: give each queue (SIDECAR_QUEUE_KEY) a REDIS_KEY_PREFIX of its own"},
		{"Graflow and a queue of another name", []string{url("", "0"), "SIDECAR_QUEUE_KEY=jobs"}, []string{"--graflow"}, misconfigured, "Graflow puts its tasks into graflow:queue"},
		{"a queue among the keys of the sidecar", []string{url("", "0"), "SIDECAR_QUEUE_KEY=graflow:sidecar:dead"}, nil, misconfigured, "are the sidecar's own"},
		{"a Cluster and a database", []string{"REDIS_ADDRS=" + cluster.Addr, "REDIS_DB=1"}, nil, misconfigured, "database 0 only"},
		{"a Cluster and Graflow's tasks", []string{"REDIS_ADDRS=" + cluster.Addr, "REDIS_KEY_PREFIX={g}"}, []string{"--graflow"}, misconfigured, "Graflow has no client for a Redis Cluster"},
		{"a master and no sentinels", []string{"REDIS_SENTINEL_MASTER=m"}, nil, misconfigured, "needs the sentinels in REDIS_ADDRS"},
		{"a spool that cannot be", []string{url("", "0"), "SIDECAR_SPOOL_DIR=" + dir + "/file"}, nil, misconfigured, "SIDECAR_SPOOL_DIR"},
		{"no worker", []string{url("", "0")}, []string{}, usage, "--graflow"},
	}
	t.Cleanup(func() {
		table.add(row{fault: "Redis refuses, or a setting makes no sense", runs: len(cases), violations: btoi(t.Failed())})
	})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			status, log := refusal(t, c.where, c.args)
			if status != c.status {
				t.Errorf("exit status %d, want %d:\n%s", status, c.status, log)
			}
			var errs []string
			for line := range strings.Lines(log) {
				if !strings.HasPrefix(line, "{") || strings.Contains(line, `"level":"ERROR"`) {
					errs = append(errs, line)
				}
			}
			if len(errs) == 0 || !strings.Contains(errs[0], c.says) || len(errs) > 1 && c.status != usage {
				t.Errorf("it does not say in one line %q:\n%s", c.says, log)
			}
			if strings.Contains(log, "secret") || strings.Contains(log, "wrong@") {
				t.Errorf("a password is in the log:\n%s", log)
			}
		})
	}
}

// refusal runs a sidecar that is expected to end by itself.
func refusal(t *testing.T, where, args []string) (status int, log string) {
	t.Helper()
	binary, err := sidecarBinary()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if args == nil {
		args = []string{"--", self, "worker"}
	}
	var text bytes.Buffer
	cmd := exec.Command(binary, append([]string{"run"}, args...)...)
	cmd.Env = append(append(proc.Env(), "SIDECAR_LOG_FORMAT=json", "LOG_LEVEL=WARNING", historyVariable+"="+os.DevNull), where...)
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := proc.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is in ProcessState
	}()
	over := func() bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	}
	if !wait.Within(t, 20*time.Second, "the end of a start that cannot succeed", over) {
		_ = cmd.Process.Kill()
	}
	<-ended
	return cmd.ProcessState.ExitCode(), text.String()
}
