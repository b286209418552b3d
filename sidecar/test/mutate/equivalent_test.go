package main

import (
	"maps"
	"testing"
)

func TestReadEquivalents(t *testing.T) {
	got, err := readEquivalents("# a comment\n\na | b | c\nd | e | f\n\tfor both,\n\tin two lines\n\ng | h | i\n\tfor one\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a | b | c": "for both, in two lines", "d | e | f": "for both, in two lines", "g | h | i": "for one"}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for text, why := range map[string]string{
		"\ta reason\n":         "a reason without a mutant",
		"a\n":                  "a mutant without a reason",
		"a\n\tb\na\n\tc\n":     "a mutant twice",
		"a\n\tb\nc\n# the end": "a mutant without a reason at the end",
	} {
		if got, err := readEquivalents(text); err == nil {
			t.Errorf("%s is no error: %q", why, got)
		}
	}
}

// TestListedMutantsExist checks the list against the source.
func TestListedMutantsExist(t *testing.T) {
	reasons, err := loadEquivalents()
	if err != nil {
		t.Fatal(err)
	}
	all, err := subjects()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		for _, c := range s.mutants {
			delete(reasons, c.Key())
		}
	}
	for key := range reasons {
		t.Errorf("%s lists what is no mutant: %s", equivalentFile, key)
	}
}
