package cli

import (
	"encoding/json"
	"strings"
	"testing"

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
