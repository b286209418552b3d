package task_test

import (
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestAge(t *testing.T) {
	now := time.Unix(1_732_335_700, 0)
	for _, c := range []struct {
		name, createdAt string
		age             time.Duration
		ok              bool
	}{
		{"seconds", "1732335600.25", 99750 * time.Millisecond, true},
		{"whole seconds", "1732335600", 100 * time.Second, true},
		{"with an exponent", "1.7323356e9", 100 * time.Second, true},
		{"milliseconds", "1732335600250", 99750 * time.Millisecond, true},
		{"microseconds", "1732335600250000", 99750 * time.Millisecond, true},
		{"nanoseconds", "1732335600000000000", 100 * time.Second, true},
		{"a little ahead", "1732335700.9", 0, true},
		{"ahead", "1732335706", 0, false},
		{"ahead, in milliseconds", "1732335706000", 0, false},
		{"none", "", 0, false},
		{"a monotonic clock", "86400.5", 0, false},
		{"a monotonic clock in milliseconds", "864000000000", 0, false},
		{"nothing", "0", 0, false},
		{"negative", "-1732335600", 0, false},
		{"beyond all", "1e300", 0, false},
		{"beyond a float", "1e400", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if age, ok := (task.Info{CreatedAt: c.createdAt}).Age(now); age != c.age || ok != c.ok {
				t.Errorf("%v, %v, want %v, %v", age, ok, c.age, c.ok)
			}
		})
	}
}
