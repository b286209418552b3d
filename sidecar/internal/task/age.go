package task

import (
	"strconv"
	"time"
)

const (
	// earliest and latest bound what a created_at may mean, in seconds: 2001 to 5138.
	// A smaller number is of a clock that does not tell the date.
	earliest = 1e9
	latest   = 1e11
	// clocksDiffer is how far a record may seem to come from the future: the clock of
	// its producer is not Redis', or not this machine's.
	clocksDiffer = time.Second
)

// Created is when a record was made, by its producer's clock. created_at is a number
// of seconds; one of milli-, micro- or nanoseconds is known by its size. The result is
// false where created_at is missing or tells no time.
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

// Age is how old a record is at a time. The result is false where that is not known:
// it does not say when it was made, or that is ahead of now by more than clocks differ.
func (i Info) Age(now time.Time) (time.Duration, bool) {
	created, ok := i.Created()
	age := now.Sub(created)
	if !ok || age < -clocksDiffer {
		return 0, false
	}
	return max(age, 0), true
}
