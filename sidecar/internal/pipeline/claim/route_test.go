package claim_test

import (
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// A claim's kind is a task's route, also where it is none.
func TestKindsAreRoutes(t *testing.T) {
	if redis.KindUnknown != task.KindUnknown || redis.KindNone != task.KindNone {
		t.Error("the store and the claim stage have different numbers for no kind")
	}
	route := claim.KindOf([]string{"a*", "*b"})
	for id, want := range map[string]int{"ab": 0, "cb": 1, "c": task.KindNone} {
		if got := route(id); got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
}
