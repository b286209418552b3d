package app

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestAWrongEvictionPolicyIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		policy string
		err    error
		warned bool
	}{
		{"noeviction", nil, false},
		{"allkeys-lru", nil, true},
		{"volatile-ttl", nil, true},
		{"", nil, false},
		{"", errors.New("NOPERM"), false},
	} {
		var b bytes.Buffer
		a := &App{log: slog.New(slog.NewTextHandler(&b, nil))}
		a.redis.eviction = func(context.Context) (string, error) { return c.policy, c.err }
		a.checkEviction(t.Context())
		if got := strings.Contains(b.String(), "policy="+c.policy); (b.Len() > 0) != c.warned || c.warned && !got {
			t.Errorf("%q, %v: %s", c.policy, c.err, b.String())
		}
	}
}
