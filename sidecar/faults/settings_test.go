//go:build faults

package faults

import (
	"strings"
	"testing"
)

// TestLeastPermissions: the permissions that docs/guarantees.md names are
// enough for all that a sidecar ever does.
func TestLeastPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := bounded()
	defer cancel()
	rules := []any{
		"acl", "setuser", "sidecar", "on", ">secret", "~" + w.prefix + ":*", "~graflow:channel:*",
		"&" + w.prefix + ":barrier_done:*", "+@read", "+@write", "+@pubsub", "+@scripting", "+@connection", "+time",
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
