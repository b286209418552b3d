package protocol

import (
	"fmt"
	"testing"
)

func TestMembers(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: `[] <nil>`,
		"{ \"a\" : 1 ,\"b\":[1, {\"c\": \"},\"}] }\n":         `[{a 1} {b [1, {"c": "},"}]}] <nil>`,
		`{"x": NaN, "y": [-Infinity, 123456789012345678901]}`: `[{x NaN} {y [-Infinity, 123456789012345678901]}] <nil>`,
		`{"\u00e4\ud83d\ude00": "\ud800"}`:                    `[{ä😀 "\ud800"}] <nil>`,
		`{"a":1,"b":2,"a":3}`:                                 `[{b 2} {a 3}] <nil>`,
		``:                                                    `[] not an object`,
		`[1]`:                                                 `[] not an object`,
		`null`:                                                `[] not an object`,
		`{"a":}`:                                              `[] expected a value`,
		`{"a": ,"b":1}`:                                       `[] expected a value`,
		`{"a":1`:                                              `[] the text ends within a value`,
		`{"a":[1}`:                                            `[] the text ends within a value`,
		`{"a":"x`:                                             `[] a string without its end`,
		`{"a":1} 2`:                                           `[] more bytes after the end of the value`,
		`{a:1}`:                                               `[] expected the name of a member`,
	} {
		got, err := Members([]byte(text))
		if line := fmt.Sprintf("%s %v", got, err); line != want {
			t.Errorf("%s\n got %s\nwant %s", text, line, want)
		}
	}
}
