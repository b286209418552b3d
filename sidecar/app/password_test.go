package app

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// TestAWorkerIsGivenThePasswordOfItsStart, and not that of the sidecar's, where it
// connects to Redis by itself.
func TestAWorkerIsGivenThePasswordOfItsStart(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"supervise": supervisedConfig,
		"graflow":   func(c *config.Config) { c.Worker.Graflow = true },
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "password")
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("one\n")
			t.Chdir(filepath.Dir(file))
			synctest.Test(t, func(t *testing.T) {
				o := startOrder(t, "", "", func(c *config.Config) {
					change(c)
					c.Worker.Dir = "/" // a relative path would be another file there
					c.Redis.Host, c.Redis.Username, c.Redis.PasswordFile = "h", "w", "password"
				})
				<-o.Ready()
				seen := 0
				check := func(step, password string) {
					t.Helper()
					all := o.workers.all()
					if len(all) == seen {
						t.Errorf("%s: no worker was started", step)
					}
					for _, p := range all[seen:] {
						for _, want := range []string{
							"REDIS_PASSWORD=" + password, "REDIS_PASSWORD_FILE=" + file, "REDIS_USERNAME=w",
							"REDIS_URL=redis://" + url.UserPassword("w", password).String() + "@h:6379/0",
						} {
							if !slices.Contains(p.env, want) {
								t.Errorf("%s: %s is not in %v", step, want, p.env)
							}
						}
					}
					seen = len(all)
				}
				check("at first", "one")
				for _, c := range []struct {
					step, password string
					change         func()
				}{
					{"after a change", "two", func() { write("two\n") }},
					{"while it is written", "two", func() { write("") }},
					{"while it is replaced", "two", func() { _ = os.Remove(file) }},
					{"after another one", "th/r:ee", func() { write("th/r:ee") }},
				} {
					c.change()
					o.RestartWorkers()
					time.Sleep(time.Minute)
					check(c.step, c.password)
				}
				if err := o.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
