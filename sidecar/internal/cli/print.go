package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

const (
	asTable = "table"
	asJSON  = "json"
)

func outputFlag(c *cobra.Command) *string {
	format := c.Flags().StringP("output", "o", asTable, "how to print: table, or json for programs")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{asTable, asJSON}, cobra.ShellCompDirectiveNoFileComp))
	return format
}

// printer writes a command's answer. Any client of Redis can write the texts of a
// record: none of them reaches a terminal as a control character.
type printer struct {
	w     io.Writer
	json  bool
	tty   bool
	width int // of the terminal; 0: do not shorten
	color bool
}

func newPrinter(w io.Writer, format string) (*printer, error) {
	if format != asTable && format != asJSON {
		return nil, wrongUse("--output is %q, and must be table or json", format)
	}
	p := &printer{w: w, json: format == asJSON}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return p, nil
	}
	p.tty = true
	p.color = config.Color()
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		p.width = width
	}
	return p, nil
}

// object prints a value as JSON: over several lines, or on one.
func (p *printer) object(v any, oneLine bool) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if oneLine {
		text, err = json.Marshal(v)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.w, escapeJSON(string(text)))
	return err
}

// escapeJSON escapes what a terminal may act on: encoding/json leaves C1 controls
// and text direction alone. Outside of strings JSON has none of them.
func escapeJSON(text string) string {
	return escape(text, func(b *strings.Builder, r rune) {
		if r == '\n' {
			b.WriteByte('\n')
			return
		}
		for _, unit := range utf16Units(r) {
			fmt.Fprintf(b, `\u%04x`, unit)
		}
	})
}

func utf16Units(r rune) []rune {
	if r < 0x10000 {
		return []rune{r}
	}
	r -= 0x10000
	return []rune{0xd800 + r>>10, 0xdc00 + r&0x3ff}
}

// clean makes a text from outside fit for one cell of a terminal.
func clean(text string) string {
	return escape(text, func(b *strings.Builder, r rune) {
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	})
}

func escape(text string, replace func(*strings.Builder, rune)) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			replace(&b, r)
		}
	}
	return b.String()
}

// say prints a line. Arguments that are texts are cleaned.
func (p *printer) say(format string, args ...any) {
	for i, a := range args {
		if text, ok := a.(string); ok {
			args[i] = clean(text)
		}
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *printer) bold(text string) string { return p.paint("1", text) }

func (p *printer) paint(code, text string) string {
	if !p.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// age is a time span for people.
func age(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}

// since is the age of a time; "-" for none, and for one that is ahead of this machine's
// clock by more than clocks differ.
func since(t time.Time) string {
	d := time.Since(t)
	if t.IsZero() || d < -clocksDiffer {
		return "-"
	}
	return age(d)
}

// clocksDiffer is how far what another machine tells may seem to come from the future.
const clocksDiffer = time.Second

// ageOr is an age; otherwise where it is not known.
func ageOr(d *time.Duration, otherwise string) string {
	if d == nil {
		return otherwise
	}
	return age(*d)
}

// died says when a dead letter was made; "" where that is not known.
func died(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	text := at.Format("2006-01-02 15:04:05 MST")
	if ago := since(at); ago != "-" {
		text += ", " + ago + " ago"
	}
	return text
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
