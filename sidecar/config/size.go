package config

import (
	"math"
	"strconv"
	"strings"
)

// units are what may stand behind a number of bytes. Plain K, M and G are not
// among them: half the world means 1000 by them, the other half 1024.
var units = map[string]float64{
	"": 1, "b": 1,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
	"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

// parseSize reads a number of bytes with or without a unit.
func parseSize(s string) (int64, bool) {
	end := strings.LastIndexAny(s, "0123456789.") + 1
	n, err := strconv.ParseFloat(s[:end], 64)
	unit, known := units[strings.ToLower(strings.TrimSpace(s[end:]))]
	n *= unit
	if err != nil || !known || n < 0 || n >= math.MaxInt64 {
		return 0, false
	}
	return int64(n), true
}

// size takes a number of bytes, or 0 for no limit.
func (in *interpreter) size(v *value, dst *int64, low int64) {
	v.example = ", as in 512MiB or 1.5GB (MiB is 1024 KiB, MB is 1000 KB)"
	accepts := "0 or a number of bytes, at least " + strconv.FormatInt(low, 10) + ", with or without a unit from KiB to TiB or KB to TB"
	set(in, v, dst, accepts, strconv.FormatInt(*dst, 10), func(s string) (int64, bool) {
		n, ok := parseSize(s)
		return n, ok && (n == 0 || n >= low)
	})
}
