package config

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// UsageError is a bad command line, as against a bad environment, which is an
// Error.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *UsageError) Unwrap() error { return e.Err }

// interpreter turns texts into values. Each of its methods leaves the default
// in place for a value that was not given, and notes what is accepted and what
// the default is, for messages and for the table of all variables.
type interpreter struct {
	usage []error // of the command line
	env   []error
}

// wrong notes a bad value in the one form that all messages have: name, what
// was given (unless it is a secret), what is accepted.
func (in *interpreter) wrong(v *value) {
	if v.secret {
		in.complain(v, "%s has a value that cannot be used, and must be %s", v.name(), v.accepts)
		return
	}
	in.complain(v, "%s is %s, and must be %s%s", v.name(), shorten(v.text()), v.accepts, v.example)
}

func (in *interpreter) complain(v *value, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if v.byFlag() {
		in.usage = append(in.usage, err)
	} else {
		in.env = append(in.env, err)
	}
}

// shorten quotes a value so that a message stays on one line.
func shorten(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return strconv.Quote(text)
}

// set is the common part: the default is noted and, if a text was given,
// parse decides.
func set[T any](in *interpreter, v *value, dst *T, accepts, def string, parse func(string) (T, bool)) {
	v.accepts = accepts
	if v.def == "" {
		v.def = def
	}
	if !v.given() {
		return
	}
	got, ok := parse(v.text())
	if !ok {
		in.wrong(v)
		return
	}
	*dst = got
}

const longestText = 256

// label takes printable text that goes into keys and log lines.
func (in *interpreter) label(v *value, dst *string) {
	accepts := fmt.Sprintf("at most %d printable characters", longestText)
	set(in, v, dst, accepts, *dst, func(s string) (string, bool) {
		return s, len(s) <= longestText && !strings.ContainsFunc(s, func(r rune) bool {
			return !unicode.IsGraphic(r) || r == unicode.ReplacementChar
		})
	})
}

// free takes any text: a path, a name, a password.
func (in *interpreter) free(v *value, dst *string, accepts string) {
	set(in, v, dst, accepts, *dst, func(s string) (string, bool) {
		return s, !strings.ContainsAny(s, "\x00\r\n")
	})
}

func (in *interpreter) integer(v *value, dst *int, low, high int) {
	accepts := fmt.Sprintf("a whole number from %d to %d", low, high)
	if high == math.MaxInt {
		accepts = fmt.Sprintf("a whole number, at least %d", low)
	}
	set(in, v, dst, accepts, strconv.Itoa(*dst), func(s string) (int, bool) {
		n, err := strconv.Atoi(ungrouped(s))
		return n, err == nil && n >= low && n <= high
	})
}

var groups = regexp.MustCompile(`([0-9])_([0-9])`)

// ungrouped is a number without the underscores that Python's has between digits.
func ungrouped(s string) string {
	for groups.MatchString(s) {
		s = groups.ReplaceAllString(s, "$1$2")
	}
	return s
}

func (in *interpreter) share(v *value, dst *float64) {
	def := strconv.FormatFloat(*dst, 'g', -1, 64)
	set(in, v, dst, "a number from 0 to 1", def, func(s string) (float64, bool) {
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil && f >= 0 && f <= 1 // not NaN
	})
}

// duration takes Go's form ("25s", "1m30s") and plain seconds ("25", "0.5").
func (in *interpreter) duration(v *value, dst *time.Duration, low, high time.Duration) {
	accepts := fmt.Sprintf("a time from %s to %s", short(low), short(high))
	v.example = ", as in 25s, 1m30s, or 0.5 (seconds)"
	set(in, v, dst, accepts, short(*dst), func(s string) (time.Duration, bool) {
		d, ok := parseDuration(s)
		return d, ok && d >= low && d <= high
	})
}

// parseDuration reads either form. Seconds beyond what a duration can hold are
// no duration.
func parseDuration(s string) (time.Duration, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, true
	}
	f, err := strconv.ParseFloat(ungrouped(s), 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > math.MaxInt64/float64(time.Second)/2 {
		return 0, false
	}
	return time.Duration(f * float64(time.Second)), true
}

// short is a duration without the zero parts that String gives ("5m0s").
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "0s" {
		s = "0"
	}
	return s
}

const acceptsBool = "true or false (1, 0, yes, no, on, off)"

func (in *interpreter) boolean(v *value, dst *bool) {
	set(in, v, dst, acceptsBool, strconv.FormatBool(*dst), func(s string) (bool, bool) {
		switch strings.ToLower(s) {
		case "1", "true", "yes", "on", "t", "y":
			return true, true
		case "0", "false", "no", "off", "f", "n":
			return false, true
		default:
			return false, false
		}
	})
}

// choice takes one of the words, in any case, and stores it as it is listed.
func choice[T ~string](in *interpreter, v *value, dst *T, words ...T) {
	listed := make([]string, len(words))
	for i, w := range words {
		listed[i] = string(w)
	}
	accepts := listed[0]
	if n := len(listed); n > 1 {
		accepts = strings.Join(listed[:n-1], ", ") + " or " + listed[n-1]
	}
	set(in, v, dst, accepts, string(*dst), func(s string) (T, bool) {
		for _, w := range words {
			if strings.EqualFold(s, string(w)) {
				return w, true
			}
		}
		return "", false
	})
}

// splitList splits at commas; empty items do not count.
func splitList(s string) []string {
	var items []string
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// err joins what was wrong: with the command line first, since a person is
// looking at it.
func (in *interpreter) err(wrap func(error) error) error {
	if len(in.usage) > 0 {
		return &UsageError{errors.Join(append(in.usage, in.env...)...)}
	}
	if len(in.env) > 0 {
		return wrap(errors.Join(in.env...))
	}
	return nil
}
