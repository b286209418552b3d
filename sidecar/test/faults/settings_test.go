//go:build faults

package faults

import (
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/acl"
)

// TestLeastPermissions checks that the permissions that package acl names are enough for
// every command that a sidecar sends.
func TestLeastPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := bounded()
	defer cancel()
	rules := []any{"acl", "setuser", "sidecar", "on", ">secret"}
	for _, rule := range acl.Rules(acl.Needs{Prefix: w.prefix}) {
		rules = append(rules, rule)
	}
	if err := w.c.Do(ctx, rules...).Err(); err != nil {
		t.Fatal(err)
	}
	w.hurt("an access control list")
	p := w.newProxy(w.server.Addr)
	w.life(p, "REDIS_URL=redis://sidecar:secret@"+p.Addr()+"/0")
	w.verify("Redis with the least permissions")
	for _, s := range w.sidecars {
		if strings.Contains(s.text(), "can't run this command") || s.says("NOPERM") || s.says("ACL failure") {
			t.Errorf("%s was refused something", s.id)
		}
	}
}
