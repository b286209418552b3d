package protocol

import "errors"

// ErrNotText is returned for a value that no message can hold.
var ErrNotText = errors.New("not UTF-8")

// valueDepth is how many containers stand around a value wherever this protocol
// has one, at most: the message, its params or result, a list or an object of
// values, and the object with the member value.
const valueDepth = 4

// AppendValue appends the member "value" or "valueText" for a value that is to
// be sent (P25): the first for JSON that every reader takes as it is, the second
// for any other text, such as Python's NaN or an integer beyond 2^53. No comma
// is written before or after. It fails with ErrNotText for bytes that are no
// text; an empty text, which no value has, is written as null.
func AppendValue(dst, text []byte) ([]byte, error) {
	if len(text) == 0 {
		return append(dst, `"value":null`...), nil
	}
	if invalidUTF8(text) >= 0 {
		return dst, ErrNotText
	}
	if travels(text) {
		dst = append(dst, `"value":`...)
		return appendFlat(dst, text), nil
	}
	dst = append(dst, `"valueText":`...)
	return appendString(dst, string(text)), nil
}

// travels reports whether text, which is UTF-8, survives as a value: strict JSON
// with no integer beyond 2^53 that does not nest too deep.
func travels(text []byte) bool {
	s := newScan(text)
	s.Space()
	return s.value(valueDepth) && s.End() && !s.LargeInteger
}
