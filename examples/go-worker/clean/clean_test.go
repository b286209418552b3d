package clean

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "",
		" \t\r\n ":                          "",
		"a":                                 "a",
		"  a \t\n b  ":                      "a b",
		"a<br/>b":                           "a b",
		"<p class=\"x\">a</p>\n<p>b</p>":    "a b",
		"1 < 2 and 3 > 2":                   "1 2",
		"1 < 2":                             "1 < 2",
		"a <<b> c":                          "a < c",
		"a > b":                             "a > b",
		"nul\x00 and \x7fdel":               "nul and del",
		"a \x01 b":                          "a b",
		"no-break\u00a0space stays, \u00fc": "no-break\u00a0space stays, \u00fc",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestWords(t *testing.T) {
	got := words("The CAT's 2 \u00c4pfel\u2014x_y")
	if want := []string{"the", "cat", "s", "2", "\u00c4pfel\u2014x", "y"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func records(t testing.TB, text string) (all []Record) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func quiet(float64, string) {}

func TestClean(t *testing.T) {
	const fox = "the quick brown fox jumps over the lazy dog and runs away"
	in := records(t, `[
		{"id": 1, "text": "<b>`+fox+`</b>"},
		{"id": 2, "text": "something else"},
		{"id": 3, "text": "\n`+strings.ToUpper(fox)+`!"},
		{"text": " <br> ...", "id": 4},
		{"id": 5, "text": "`+fox+` again", "n": 12345678901234567890},
		{"id": 6, "text": "Something, else"}
	]`)
	before := fmt.Sprint(in)
	var fractions []float64
	r, err := Clean(t.Context(), in, DefaultThreshold, func(f float64, _ string) { fractions = append(fractions, f) })
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"records":[{"id":1,"text":"` + fox + `"},{"id":2,"text":"something else"}],` +
		`"duplicates":[{"index":2,"of":0,"likeness":1},{"index":4,"of":0,"likeness":0.9090909090909091},{"index":5,"of":1,"likeness":1}],` +
		`"stats":{"read":6,"kept":2,"duplicates":3,"empty":1,"words":14,"bytes":71}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if fmt.Sprint(in) != before {
		t.Error("the input has changed")
	}
	if len(fractions) < 2 || fractions[0] != 0 || fractions[len(fractions)-1] != 1 {
		t.Errorf("progress: %v", fractions)
	}
	if r, err = Clean(t.Context(), in, 0.95, quiet); err != nil || r.Stats.Kept != 3 || string(r.Records[2]["n"]) != "12345678901234567890" {
		t.Errorf("with a higher threshold: %v, %v", r, err)
	}
}

func TestCleanNothing(t *testing.T) {
	r, err := Clean(t.Context(), nil, 1, quiet)
	text, _ := json.Marshal(r)
	if want := `{"records":[],"duplicates":[],"stats":{"read":0,"kept":0,"duplicates":0,"empty":0,"words":0,"bytes":0}}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestCleanRefuses(t *testing.T) {
	for _, text := range []string{`[{}]`, `[{"text":null}]`, `[{"text":3}]`, `[null]`} {
		if _, err := Clean(t.Context(), records(t, text), 0.8, quiet); err == nil || err.Error() != `record 0 has no string "text"` {
			t.Errorf("%s: got %v", text, err)
		}
	}
	for _, threshold := range []float64{0, -1, 1.01, math.NaN()} {
		if _, err := Clean(t.Context(), nil, threshold, quiet); err == nil {
			t.Errorf("a threshold of %v passes", threshold)
		}
	}
}

func TestCleanEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	all := corpus(1000, 1)
	calls := 0
	_, err := Clean(ctx, all, 0.8, func(float64, string) {
		if calls++; calls == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || calls != 2 {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

// corpus is n records of a hundred words, more or less: some are copies of
// earlier ones, with and without a few words changed, some are hardly text.
func corpus(n int, seed uint64) []Record {
	rng := rand.New(rand.NewPCG(seed, 0))
	odd := []string{"<b>", "</b>", "<a\nhref='x'>", "<", ">", "\t", "\n", "\x00", "\x7f", "\u00e9t\u00e9", "\u2028", "\U0001f600", "It's", "A&B", "\\", "\""}
	word := func() string {
		if rng.IntN(20) == 0 {
			return odd[rng.IntN(len(odd))]
		}
		return "w" + strconv.Itoa(int(math.Exp(rng.Float64()*9)))
	}
	var texts [][]string
	all := make([]Record, n)
	for i := range all {
		var text []string
		switch k := rng.IntN(10); {
		case k < 3 && i > 0:
			text = append(text, texts[rng.IntN(i)]...)
			for range rng.IntN(4) {
				if len(text) > 0 {
					text[rng.IntN(len(text))] = word()
				}
			}
		case k == 9:
			for range rng.IntN(4) {
				text = append(text, odd[rng.IntN(len(odd))])
			}
		default:
			for range 50 + rng.IntN(100) {
				text = append(text, word())
			}
		}
		texts = append(texts, text)
		raw, _ := json.Marshal(strings.Join(text, " "))
		all[i] = Record{"id": json.RawMessage(strconv.Itoa(i)), "text": raw}
	}
	return all
}

// python is what clean.py makes of the records, and the seconds that it took.
func python(t testing.TB, all []Record) (any, float64) {
	t.Helper()
	in, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "clean.py")
	cmd.Stdin = bytes.NewReader(in)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("python3 clean.py: %v\n%s", err, said.Bytes())
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(said.String()), 64)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, out.Bytes()), seconds
}

func decode(t testing.TB, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The step is the same in both languages, whatever the texts.
func TestCleanIsThatOfPython(t *testing.T) {
	all := corpus(150, 7)
	all = append(all, records(t, `[
		{"text": "half a pair \ud800 in the middle"}, {"text": "at the end \udfff"}, {"text": "\ud83d\ude00 whole"},
		{"text": "one"}, {"text": "one two"}, {"text": "ONE"}, {"text": "a b c", "text": "the last one counts"}
	]`)...)
	r, err := Clean(t.Context(), all, DefaultThreshold, quiet)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := python(t, all)
	if got := decode(t, text); !reflect.DeepEqual(got, want) {
		t.Errorf("Go   %.2000v\nPython %.2000v", got, want)
	}
	if r.Stats.Duplicates < 10 || r.Stats.Empty < 3 || r.Stats.Kept < 50 {
		t.Errorf("the corpus shows too little: %+v", r.Stats)
	}
}

// BenchmarkAgainstPython cleans 500 texts in both languages, one after the other,
// and says how many times longer Python takes.
func BenchmarkAgainstPython(b *testing.B) {
	all := corpus(500, 1)
	var inGo time.Duration
	var inPython float64
	for b.Loop() {
		began := time.Now()
		if _, err := Clean(b.Context(), all, DefaultThreshold, quiet); err != nil {
			b.Fatal(err)
		}
		inGo += time.Since(began)
		_, seconds := python(b, all)
		inPython += seconds
	}
	n := float64(b.N)
	b.ReportMetric(inGo.Seconds()*1e3/n, "ms/Go")
	b.ReportMetric(inPython*1e3/n, "ms/Python")
	b.ReportMetric(inPython/inGo.Seconds(), "Python/Go")
}
