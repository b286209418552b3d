package manifest

import (
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// TestBooleanIsTheConfigurations: each word that the configuration takes for true is true
// in the chart's values, and each that it takes for false is false.
func TestBooleanIsTheConfigurations(t *testing.T) {
	for _, word := range []string{"1", "true", "yes", "on", "t", "y", "TRUE", "On", "0", "false", "no", "off", "f", "n"} {
		t.Setenv("REDIS_TLS", word)
		s, err := config.NewLoader().LoadIdle(nil)
		if err != nil {
			t.Fatal(err)
		}
		want := "false"
		if s.App.Redis.TLS {
			want = "true"
		}
		if got := boolean(word); got != want {
			t.Errorf("%s: %s, want %s", word, got, want)
		}
	}
}
