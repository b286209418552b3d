package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/logdocs"
)

func TestDoctor(t *testing.T) {
	b := newBench(t)
	out, _, err := b.run("", "doctor", "-o", "json", "--", "good")
	var f []finding
	b.must(json.Unmarshal([]byte(out), &f))
	seen := make(map[string]string)
	for _, one := range f {
		seen[one.Check] = one.Status
		if (one.Status == fine) == (one.Remedy != "") {
			t.Errorf("%+v: a remedy belongs to what is not ok", one)
		}
	}
	for _, check := range []string{"reach", "version", "role", "eviction", "permissions", "clock", "format", "prefix", "worker"} {
		if seen[check] != fine {
			t.Errorf("%s is %q", check, seen[check])
		}
	}
	if status(err) != 0 && status(err) != 1 { // this machine's limits may be low
		t.Errorf("status %d", status(err))
	}
	if keys, _ := b.rdb.Keys(b.ctx, b.prefix+"*").Result(); len(keys) > 0 {
		t.Errorf("left: %v", keys)
	}
	b.must(b.rdb.Set(b.ctx, b.prefix+":queue", "x", 0).Err())
	out, _, err = b.run("", "doctor", "--", "broken")
	if status(err) != 1 {
		t.Errorf("status %d", status(err))
	}
	has(t, out, "bad      prefix", "must be a list", "bad      worker", "silence")
	b.fails(64, "comes after --", "doctor", "broken")
	out, _, err = b.run("", "doctor", "--redis-url", "redis://127.0.0.1:1/0")
	if status(err) != 1 {
		t.Errorf("status %d", status(err))
	}
	has(t, out, "bad      reach", "refused")
}

func TestLookAtServer(t *testing.T) {
	for _, c := range []struct {
		name, want string
		info       map[string]string
	}{
		{"all well", "version ok role ok eviction ok persistence ok memory ok", map[string]string{
			"redis_version": "7.2.4", "role": "master", "maxmemory_policy": "noeviction", "aof_enabled": "1", "maxmemory": "100", "used_memory": "10",
		}},
		{"Valkey", "version ok role ok eviction warning persistence warning memory ok", map[string]string{
			"redis_version": "7.2.4", "valkey_version": "8.0.1", "role": "master", "maxmemory_policy": "allkeys-lru", "aof_enabled": "0",
		}},
		{"all wrong", "version bad role bad eviction bad persistence bad memory bad", map[string]string{
			"redis_version": "6.0.16", "role": "slave", "maxmemory_policy": "volatile-ttl", "maxmemory": "100", "used_memory": "99", "rdb_last_bgsave_status": "err", "aof_enabled": "1",
		}},
		{"silent", "version unknown role ok eviction unknown persistence unknown memory ok", map[string]string{}},
		{"a cluster", "version ok role bad eviction ok persistence ok memory warning", map[string]string{
			"redis_version": "6.2.0", "cluster_enabled": "1", "maxmemory_policy": "noeviction", "aof_enabled": "1", "maxmemory": "100", "used_memory": "85",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var f findings
			lookAtServer(&f, c.info, false)
			var got []string
			for _, one := range f {
				got = append(got, one.Check+" "+one.Status)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), c.want)
			}
		})
	}
}

// A command of this version changes nothing under a newer format, and says so in one line;
// status and doctor show the format.
func TestANewerFormat(t *testing.T) {
	b := newBench(t)
	run := b.member(fleet.Run{WorkerID: "w"})
	letter := b.bury(run, `{"task_id":"a"}`, "a", "died")
	key := b.prefix + ":sidecar:format"
	b.must(b.rdb.Set(b.ctx, key, "7", 0).Err())
	for _, args := range [][]string{
		{"pause", run},
		{"pause", "--all"},
		{"resume", run},
		{"resume", "--all"},
		{"drain", run},
		{"children", "restart", run},
		{"dead", "requeue", letter},
		{"dead", "requeue", "--force", letter},
		{"dead", "drop", letter},
	} {
		b.fails(69, key+" says 7: use the newer version that wrote it", args...)
	}
	if paused, all, err := b.st.Paused(b.ctx, run); paused || all || err != nil {
		t.Errorf("paused: %v, all %v, %v", paused, all, err)
	}
	if n := b.rdb.LLen(b.ctx, b.prefix+":queue").Val(); n != 0 {
		t.Errorf("%d records were requeued", n)
	}
	has(t, b.out("dead", "list"), letter)
	has(t, b.out("status", "-o", "json"), `"format": 7`)
	has(t, b.out("status"), "THE KEYS HAVE FORMAT 7")
	out, _, err := b.run("", "doctor")
	if status(err) != 1 {
		t.Errorf("status %d", status(err))
	}
	has(t, out, "bad      format", "the keys have format 7, and this version knows 1 to 1")
	b.must(b.rdb.Set(b.ctx, key, "seven", 0).Err())
	out, _, _ = b.run("", "doctor")
	has(t, out, "bad      format", key+" holds no format")
	b.fails(69, key+" holds no format", "pause", "--all")
}

func TestLimits(t *testing.T) {
	var f findings
	lookAtLimits(&f, 1<<30)
	if len(f) < 2 || f[0].Check != "files" || f[0].Status != bad {
		t.Errorf("a billion slots: %+v", f)
	}
}

// Each finding names a section, and the section is there.
func TestFindingsAreDocumented(t *testing.T) {
	for _, check := range []string{
		"reach", "info", "version", "role", "eviction", "persistence", "memory", "permissions", "clock", "prefix", "files", "processes", "pipes", "worker",
	} {
		if _, ok := logdocs.Find(checkID(check)); !ok {
			t.Errorf("no section explains %q", checkID(check))
		}
	}
}

// TestDoctorPrintsAUser: made with redis-cli, that user is enough to run a
// sidecar.
func TestDoctorPrintsAUser(t *testing.T) {
	b := newBench(t)
	c := b.out("doctor", "--acl", "worker", "--redis-key-prefix", "flows")
	if !strings.HasPrefix(c, "ACL SETUSER worker reset on >PASSWORD ") || !strings.Contains(c, "~flows:queue") || !strings.Contains(c, "+evalsha") {
		t.Errorf("printed %q", c)
	}
	if strings.Contains(c, "feedback") {
		t.Error("what Graflow's code needs was not asked for")
	}
	if c := b.out("doctor", "--acl", "worker", "--acl-graflow"); !strings.Contains(c, "~feedback:request:*") {
		t.Errorf("printed %q", c)
	}
}
