package recoverpanic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

func TestDo(t *testing.T) {
	fault := errors.New("fault")
	if err := recoverpanic.Do(func() error { return fault }); !errors.Is(err, fault) {
		t.Errorf("an error became %v", err)
	}
	if err := recoverpanic.Do(func() error { return nil }); err != nil {
		t.Errorf("nothing became %v", err)
	}
	var p *recoverpanic.Panic
	err := recoverpanic.Do(func() error { panic("oops") })
	if !errors.As(err, &p) || p.Value != "oops" || !strings.Contains(string(p.Stack), "TestDo") || err.Error() != "panic: oops" {
		t.Errorf("a panic became %v", err)
	}
	if again := recoverpanic.Do(func() error { panic(p) }); !errors.Is(again, p) {
		t.Errorf("a panic that was passed on became %v", again)
	}
}
