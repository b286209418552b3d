package task

import (
	"strconv"
	"time"
)

const (
	// earliest and latest bound a valid created_at, in seconds: 2001 to 5138. A smaller
	// number comes from a clock that does not know the date.
	earliest = 1e9
	latest   = 1e11
	// maxClockSkew is the tolerated age below zero: the clock of the producer differs from
	// that of Redis or of this machine.
	maxClockSkew = time.Second
)

// Created returns the creation time of the record by its producer's clock. created_at is a
// number of seconds; milli-, micro- and nanoseconds are recognized by their size. The
// result is false if created_at is missing or is not a time.
func (i Info) Created() (time.Time, bool) {
	n, err := strconv.ParseFloat(i.CreatedAt, 64)
	if err != nil {
		return time.Time{}, false
	}
	for _, unit := range [...]float64{1, 1e3, 1e6, 1e9} {
		if seconds := n / unit; seconds >= earliest && seconds < latest {
			return time.UnixMicro(int64(seconds * 1e6)).UTC(), true
		}
	}
	return time.Time{}, false
}

// Age returns the age of the record at a time. The result is false if the age is unknown:
// the creation time is missing, or is ahead of now by more than the clock skew.
func (i Info) Age(now time.Time) (time.Duration, bool) {
	created, ok := i.Created()
	age := now.Sub(created)
	if !ok || age < -maxClockSkew {
		return 0, false
	}
	return max(age, 0), true
}
