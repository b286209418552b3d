package safely_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/safely"
)

func TestDo(t *testing.T) {
	fault := errors.New("fault")
	if err := safely.Do(func() error { return fault }); !errors.Is(err, fault) {
		t.Errorf("an error became %v", err)
	}
	if err := safely.Do(func() error { return nil }); err != nil {
		t.Errorf("nothing became %v", err)
	}
	var p *safely.Panic
	err := safely.Do(func() error { panic("oops") })
	if !errors.As(err, &p) || p.Value != "oops" || !strings.Contains(string(p.Stack), "TestDo") || err.Error() != "panic: oops" {
		t.Errorf("a panic became %v", err)
	}
}
