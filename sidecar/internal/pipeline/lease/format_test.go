package lease

import (
	"log/slog"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// TestAChangeOfTheFormatIsLogged: and nothing while it stays.
func TestAChangeOfTheFormatIsLogged(t *testing.T) {
	const raised, replaced = `level=INFO msg="format in redis raised: older versions are refused" format=2`, `level=WARN msg="format in redis was unreadable: written again" format=2`
	for want, res := range map[string]redis.TickResult{
		"":       {},
		raised:   {FormatRaised: 2},
		replaced: {FormatRaised: 2, FormatReplaced: true},
	} {
		var log testlog.Buffer
		l := NewRedis(RedisOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
		l.logFormat(res)
		if got := log.String(); want == "" && got != "" || !log.Has(want) {
			t.Errorf("%+v: logged %q, want %q", res, got, want)
		}
	}
}
