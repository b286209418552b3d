package protocol

import (
	"errors"
	"fmt"
)

// ErrNotJSON is wrapped by every error of CheckJSON.
var ErrNotJSON = errors.New("not JSON")

// CheckJSON reports whether raw may travel inside a message as a value: one
// JSON value in UTF-8 that nests few enough levels that the message around it
// keeps to MaxDepth. Every error wraps ErrNotJSON.
func CheckJSON(raw []byte) error {
	_, err := checkJSON(raw)
	return err
}

// checkJSON also reports whether an integer in raw is beyond 2^53 (P25).
func checkJSON(raw []byte) (big bool, err error) {
	if at := invalidUTF8(raw); at >= 0 {
		return false, fmt.Errorf("%w: not UTF-8 at byte %d", ErrNotJSON, at)
	}
	// A value stands in two objects at most: the message, and its params or
	// its result.
	s := newScan(raw)
	s.Space()
	if s.value(2) {
		s.End()
	}
	if s.Problem != "" {
		return false, fmt.Errorf("%w: %s at byte %d", ErrNotJSON, s.Problem, s.Pos)
	}
	return s.LargeInteger, nil
}
