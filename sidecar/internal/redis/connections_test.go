package redis_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
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
		policy := func(context.Context) (string, error) { return c.policy, c.err }
		redis.CheckEviction(t.Context(), policy, slog.New(slog.NewTextHandler(&b, nil)))
		if got := strings.Contains(b.String(), "policy="+c.policy); (b.Len() > 0) != c.warned || c.warned && !got {
			t.Errorf("%q, %v: %s", c.policy, c.err, b.String())
		}
	}
}
