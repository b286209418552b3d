package redismodel

import (
	"math"
	"math/big"
	"strconv"
	"strings"
)

// parseInt reads an integer as Redis does: without spaces, plus signs and leading zeros.
func parseInt(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == text
}

// parseFloat reads a number as strtod does. It refuses NaN.
func parseFloat(text string) (float64, bool) {
	if text == "" || strings.ContainsRune(text, '_') {
		return 0, false
	}
	lower := strings.ToLower(text)
	if strings.Contains(lower, "0x") && !strings.Contains(lower, "p") {
		text = lower + "p0"
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(f, 0) && f != 0 {
		return 0, false
	}
	if err != nil && strings.Contains(err.Error(), "invalid syntax") {
		return 0, false
	}
	return f, !math.IsNaN(f)
}

// formatFloat formats as printf("%.17g").
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		if math.Signbit(f) {
			return "-nan"
		}
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case f == math.Trunc(f) && math.Abs(f) < 1e17 && (f != 0 || !math.Signbit(f)):
		return strconv.FormatInt(int64(f), 10)
	}
	return formatG(f, 17)
}

// formatG formats as printf("%.<digits>g").
func formatG(f float64, digits int) string {
	exponent := 0
	if f != 0 {
		e := strconv.FormatFloat(f, 'e', digits-1, 64)
		exponent, _ = strconv.Atoi(e[strings.IndexByte(e, 'e')+1:])
	}
	if exponent < -4 || exponent >= digits {
		e := strconv.FormatFloat(f, 'e', digits-1, 64)
		mantissa, power, _ := strings.Cut(e, "e")
		return trimZeros(mantissa) + "e" + power
	}
	return trimZeros(strconv.FormatFloat(f, 'f', digits-1-exponent, 64))
}

func trimZeros(text string) string {
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// addFloats adds as Redis does for INCRBYFLOAT: in the 80-bit format of x86, with 17
// decimals in the result. It returns false for a number that is not valid, and no text for
// a sum that is not finite.
func addFloats(a, b string) (string, bool) {
	x, ok := longDouble(a)
	if !ok {
		return "", false
	}
	y, ok := longDouble(b)
	if !ok {
		return "", false
	}
	if x.IsInf() || y.IsInf() {
		return "", true
	}
	text := trimZeros(new(big.Float).SetPrec(64).Add(x, y).Text('f', 17))
	if text == "-0" {
		text = "0"
	}
	return text, true
}

func longDouble(text string) (*big.Float, bool) {
	n, ok := parseFloat(text)
	if !ok {
		return nil, false
	}
	if strings.ContainsAny(text, "xXpP") || math.IsInf(n, 0) {
		return big.NewFloat(n).SetPrec(64), ok
	}
	f, _, err := big.ParseFloat(text, 10, 64, big.ToNearestEven)
	return f, err == nil
}

// glob matches as Redis' stringmatchlen.
func glob(pattern, text string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			for pattern != "" && pattern[0] == '*' {
				pattern = pattern[1:]
			}
			if pattern == "" {
				return true
			}
			for i := range len(text) + 1 {
				if glob(pattern, text[i:]) {
					return true
				}
			}
			return false
		case '?':
			if text == "" {
				return false
			}
			pattern, text = pattern[1:], text[1:]
		case '[':
			if text == "" {
				return false
			}
			var ok bool
			if pattern, ok = class(pattern[1:], text[0]); !ok {
				return false
			}
			text = text[1:]
		default:
			if pattern[0] == '\\' && len(pattern) > 1 {
				pattern = pattern[1:]
			}
			if text == "" || pattern[0] != text[0] {
				return false
			}
			pattern, text = pattern[1:], text[1:]
		}
	}
	return text == ""
}

// class matches a character with what follows a bracket and returns the rest of the
// pattern.
func class(pattern string, c byte) (rest string, ok bool) {
	not := pattern != "" && pattern[0] == '^'
	if not {
		pattern = pattern[1:]
	}
	for pattern != "" && pattern[0] != ']' {
		switch {
		case pattern[0] == '\\' && len(pattern) >= 2:
			ok = ok || pattern[1] == c
			pattern = pattern[2:]
		case len(pattern) >= 3 && pattern[1] == '-':
			from, to := min(pattern[0], pattern[2]), max(pattern[0], pattern[2])
			ok = ok || from <= c && c <= to
			pattern = pattern[3:]
		default:
			ok = ok || pattern[0] == c
			pattern = pattern[1:]
		}
	}
	if pattern != "" {
		pattern = pattern[1:]
	}
	return pattern, ok != not
}
