package redis

import (
	"strconv"
	"testing"
	"time"
)

func TestAppendSeconds(t *testing.T) {
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(0, 1000), time.Unix(1732335600, 100_000_000), time.Unix(1732335600, 123_456_789),
		time.Unix(1732335600, 999_999_999), time.Unix(4_000_000_000, 1000), time.Unix(-5, 250_000_000),
	} {
		want := strconv.FormatFloat(float64(at.UnixMicro())/1e6, 'f', 6, 64)
		if got := string(appendSeconds([]byte("x"), at)); got != "x"+want {
			t.Errorf("%v: got %s, want x%s", at, got, want)
		}
	}
}
