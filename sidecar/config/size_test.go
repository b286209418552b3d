package config

import "testing"

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64
	}{
		{"0", 0},
		{"1048576", 1 << 20},
		{"512MiB", 512 << 20},
		{"512 mib", 512 << 20},
		{"512Mi", 512 << 20},
		{"1.5GB", 1_500_000_000},
		{"2KiB", 2048},
		{"2kB", 2000},
		{"100b", 100},
		{"1TiB", 1 << 40},
		{"", -1},
		{"MiB", -1},
		{"-1", -1},
		{"512M", -1}, // 10^6 to one half of the world, 2^20 to the other
		{"1e400", -1},
		{"NaN", -1},
		{"9999999TiB", -1},
		{"5 apples", -1},
	} {
		got, ok := parseSize(c.text)
		if !ok {
			got = -1
		}
		if got != c.want {
			t.Errorf("%q: %d, want %d", c.text, got, c.want)
		}
	}
}
