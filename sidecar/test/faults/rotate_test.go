//go:build faults

package faults

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestAPasswordThatIsRotated rotates the password in Redis while Graflow's tasks run. No task
// is lost or reported as failed, neither while the workers know only the old password nor
// afterwards.
func TestAPasswordThatIsRotated(t *testing.T) {
	t.Parallel()
	interpreter := graflow.Find()
	if interpreter == "" {
		table.add(row{fault: "(not run: no Python with Graflow, see GRAFLOW_PYTHON)"})
		return
	}
	w := newWorld(t)
	file := filepath.Join(w.dir, "password")
	r := rotation{w: w, file: file}
	r.user("+@all", "~*", "&*", ">one")
	r.write("one")
	g := &graflows{w: w, python: interpreter, login: []string{
		"REDIS_USERNAME=w", "REDIS_PASSWORD_FILE=" + file,
		"SIDECAR_REDIS_WORKER_RETRIES=0", "SIDECAR_REDIS_MIN_IDLE_CONNS=0", // an idle one has not logged in
	}}
	g.run(contest{name: "a password that is rotated", tasks: 12, does: []string{"channel"}, hurt: func(g *graflows) {
		// After these reports the sidecars need no new connection, but the workers do.
		wait.Within(t, 20*time.Second, "the reports of four tasks", func() bool {
			n := 0
			for _, f := range g.story().Tasks {
				n += min(len(f.Completed), 1)
			}
			return n >= 4
		})
		// The file changes after the user does, as a Kubernetes secret does.
		w.hurt("password")
		r.user(">two", "<one")
		r.cut(func(name string) bool { return name != "graflow-sidecar" })
		wait.Within(t, 20*time.Second, "a task that is handed back for the password", func() bool {
			return len(w.alive()) < 2 || r.isSaid("Redis refused the worker's password")
		})
		r.write("two")
		for len(w.alive()) < 2 { // as a service manager restarts a sidecar that was refused
			g.startWorker()
		}
		// The order that docs/redis.md recommends.
		w.hurt("password")
		r.user(">three")
		r.write("three")
		r.user("<two")
		r.cut(func(string) bool { return true })
	}})
}

// rotation is the Redis user of a world's sidecars, and the file with its password.
type rotation struct {
	w    *world
	file string
}

func (r *rotation) write(password string) {
	r.w.t.Helper()
	if err := os.WriteFile(r.file, []byte(password+"\n"), 0o600); err != nil {
		r.w.t.Fatal(err)
	}
}

// user changes the rules of the user.
func (r *rotation) user(rules ...string) {
	r.w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	if err := r.w.c.ACLSetUser(ctx, "w", append([]string{"on"}, rules...)...).Err(); err != nil {
		r.w.t.Fatal(err)
	}
}

// cut ends those of the user's connections whose name which accepts.
func (r *rotation) cut(which func(name string) bool) {
	r.w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	list, err := r.w.c.ClientList(ctx).Result()
	if err != nil {
		r.w.t.Fatal(err)
	}
	for line := range strings.Lines(list) {
		fields := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		if id, err := strconv.Atoi(fields["id"]); err == nil && fields["user"] == "w" && which(fields["name"]) {
			_ = r.w.c.ClientKillByFilter(ctx, "ID", strconv.Itoa(id)).Err() // it may be gone
		}
	}
}

func (r *rotation) isSaid(what string) bool {
	for _, s := range r.w.alive() {
		if s.says(what) {
			return true
		}
	}
	return false
}
