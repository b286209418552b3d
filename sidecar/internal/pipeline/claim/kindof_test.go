package claim_test

import (
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestKindOf: a claim has the kind of its task id, or task.KindNone.
func TestKindOf(t *testing.T) {
	if redis.KindUnknown != task.KindUnknown || redis.KindNone != task.KindNone {
		t.Error("the store and the claim stage have different numbers for no kind")
	}
	kindOf := claim.KindOf([]string{"a*", "*b"})
	for id, want := range map[string]int{"ab": 0, "cb": 1, "c": task.KindNone} {
		if got := kindOf(id); got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
}
