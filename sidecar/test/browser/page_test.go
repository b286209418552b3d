//go:build browser

package browser

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
	pages "github.com/graflow/graflow-sidecar/sidecar/internal/web/page"
)

const token = "correct-horse-battery-staple"

const traceback = `Traceback (most recent call last):
  File "/app/flows/media.py", line 88, in transcode
    out = encoder.run(source, preset="slow")
  File "/app/lib/encoder.py", line 41, in run
    raise EncoderError(f"exit status {code}: {line}")
EncoderError: exit status 1: moov atom not found`

func busy() *fake {
	f := &fake{began: time.Now()}
	for i, l := range []fleet.DeadLetter{
		{TaskID: "transcode_1388", Reason: "attempts", Message: "its worker was killed (signal: killed) three times", Stderr: "frame= 1180 fps= 31\nAllocated 7.9 GiB of 8.0 GiB\n", Attempts: 3},
		{TaskID: "score_model_1290", Reason: "timeout", Message: "took longer than 15m0s", Attempts: 1},
		{TaskID: "", Reason: "invalid", Message: "the record is no JSON: unexpected end of input", Attempts: 1},
	} {
		l.ID, l.At = fmt.Sprintf("worker-1-00000000000000000000000000000abc.%d", 40+i), f.began.Add(-time.Duration(i*i+1)*17*time.Minute)
		l.Raw = fmt.Appendf(nil, `{"task_id":%q,"session_id":"nightly-2026-11-24","created_at":1795514400.25}`, l.TaskID)
		if l.TaskID != "" {
			l.SessionID, l.GroupID = "nightly-2026-11-24", "media"
		}
		f.letters = append(f.letters, l)
	}
	return f
}

func failed(began time.Time) []pages.Failure {
	return []pages.Failure{
		{At: began.Add(-38 * time.Minute), TaskID: "fetch_pages_1377", SessionID: "nightly-2026-11-24", Kind: "retry", Message: "HTTPError: 503 Service Unavailable", Attempt: 1, Took: 2140},
		{At: began.Add(-12 * time.Minute), TaskID: "embed_batch_1391", SessionID: "nightly-2026-11-24", Kind: "lost", Message: "worker ended: signal: segmentation fault", Attempt: 1, Took: 48210},
		{At: began.Add(-95 * time.Second), TaskID: "transcode_1402", SessionID: "nightly-2026-11-24", GroupID: "media", Kind: "failed", Message: "EncoderError: exit status 1: moov atom not found\n" + traceback, Attempt: 1, Took: 830},
	}
}

const filled = `document.querySelectorAll('#running tbody tr').length === 8 && document.querySelectorAll('#dead li').length === 3 && document.querySelectorAll('#failures li').length === 3`

func scheme(name string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
		})
		return chromedp.Void{}, err
	}
}

// typed inserts text where the focus is.
func typed(text string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, input.InsertText, input.InsertTextParams{Text: text})
		return chromedp.Void{}, err
	}
}

// charted waits until the charts are full, where a picture is taken of them.
func charted() chromedp.Action[chromedp.Void] {
	points := 3
	if *update {
		points = 560
	}
	return until(fmt.Sprintf(`document.querySelector('#rate-chart .line')?.getAttribute('d').split('L').length > %d`, points))
}

func TestLightDarkAndPhone(t *testing.T) {
	url := site(t, httpauth.Rules{Loopback: true, Token: token}, busy())
	const background = `getComputedStyle(document.documentElement).backgroundColor`
	ctx := tab(t, 1280)
	must(t, ctx, scheme("light"), chromedp.Navigate(url), until(filled), charted())
	picture(t, ctx, "page-light.png")
	light := value[string](t, ctx, background)

	must(t, ctx, scheme("dark"), until(background+` !== `+fmt.Sprintf("%q", light)))
	picture(t, ctx, "page-dark.png", chromedp.Click(chromedp.CSS("#dead summary")), until(`document.querySelectorAll('#dead pre').length === 3`),
		does(`scrollTo(0, document.body.scrollHeight)`), until(`scrollY > 0`))
	dark := value[string](t, ctx, background)

	// By hand, and kept over a reload: the system's is dark.
	must(t, ctx, chromedp.Click(chromedp.CSS("#theme")), until(background+` === `+fmt.Sprintf("%q", light)),
		chromedp.Reload(), until(filled))
	if got := value[string](t, ctx, background); got != light {
		t.Errorf("after a reload the chosen light theme is %s, want %s (dark is %s)", got, light, dark)
	}
	must(t, ctx, chromedp.Click(chromedp.CSS("#theme")), until(background+` === `+fmt.Sprintf("%q", dark)))
}

// Nothing is wider than the window, whatever the width.
func TestNoHorizontalScrolling(t *testing.T) {
	f := busy()
	long := strings.Repeat("a_task_id_without_any_break_", 20)
	f.set(func() { f.letters[0].TaskID, f.letters[0].Message = long, long })
	url := site(t, httpauth.Rules{Loopback: true, Token: token}, f)
	for _, width := range []int64{320, 360, 768, 1024, 1920} {
		t.Run(fmt.Sprint(width, " px"), func(t *testing.T) {
			ctx := tab(t, width)
			must(t, ctx, chromedp.Navigate(url), until(filled), until(`document.querySelectorAll('#fleet tbody tr').length === 3`),
				does(`document.querySelectorAll('details').forEach(d => { d.open = true })`),
				until(`document.querySelectorAll('#dead pre').length > 2`))
			if got := value[int64](t, ctx, `document.documentElement.scrollWidth`); got > width {
				t.Errorf("the page is %d px wide; what sticks out: %s", got, value[string](t, ctx,
					`[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map(e => e.tagName + '.' + e.className).join(', ')`))
			}
		})
	}
	if !*update {
		return
	}
	// The picture is of the ordinary one.
	url = site(t, httpauth.Rules{Loopback: true, Token: token}, busy())
	ctx := tab(t, 360)
	must(t, ctx, scheme("light"), chromedp.Navigate(url), until(filled), charted())
	picture(t, ctx, "page-phone.png")
}

// What comes from records is text, wherever it is shown.
func TestAScriptInARecordDoesNotRun(t *testing.T) {
	const evil = `<img src=x onerror="document.title='owned';alert(1)"><script>document.title='owned';alert(2)</script>`
	f := busy()
	f.set(func() {
		f.letters[0].TaskID, f.letters[0].Message, f.letters[0].Stderr = evil, evil, evil
		f.letters[0].SessionID, f.letters[0].GroupID, f.letters[0].Reason = evil, evil, evil
		f.letters[0].Raw = []byte(`{"task_id":` + fmt.Sprintf("%q", evil) + `}`)
	})
	url := site(t, httpauth.Rules{Loopback: true, Token: token}, f)
	ctx := tab(t, 1280)
	must(t, ctx, chromedp.Navigate(url), until(filled),
		chromedp.Click(chromedp.CSS("#dead li:first-child summary")), until(`document.querySelectorAll('#dead li:first-child pre').length === 3`))
	if n := value[int](t, ctx, `document.querySelectorAll('main img, main script').length`); n != 0 {
		t.Errorf("%d elements came out of a record", n)
	}
	if title := value[string](t, ctx, `document.title`); strings.Contains(title, "owned") {
		t.Error("a script in a record ran")
	}
	if text := value[string](t, ctx, `document.querySelector('#dead li:first-child summary .mono').textContent`); text != evil {
		t.Errorf("the task id is shown as %q", text)
	}
	// And the second line of defence holds by itself.
	if got := value[string](t, ctx, `(() => { try { document.body.innerHTML = '<b>x'; return 'set' } catch (e) { return e.name } })()`); got != "TypeError" {
		t.Errorf("innerHTML: %s, want it to be refused", got)
	}
	if got := value[string](t, ctx, `(() => { try { document.createElement('b').setAttribute('onclick', '1'); return 'set' } catch (e) { return e.name } })()`); got != "TypeError" {
		t.Errorf("an inline handler: %s, want it to be refused", got)
	}
}

func TestByKeyboardAlone(t *testing.T) {
	f := busy()
	url := site(t, httpauth.Rules{Loopback: true, Token: token}, f)
	ctx := tab(t, 1280)
	focus := func() string {
		return value[string](t, ctx, `document.activeElement.id || document.activeElement.textContent`)
	}
	must(t, ctx, chromedp.Navigate(url), until(filled), chromedp.KeyEvent(kb.Tab))
	if got := focus(); got != "Skip to content" {
		t.Errorf("the first Tab reaches %q", got)
	}
	must(t, ctx, chromedp.KeyEvent(kb.Tab))
	if got := focus(); got != "filter" {
		t.Errorf("the second Tab reaches %q", got)
	}
	if got := value[string](t, ctx, `getComputedStyle(document.activeElement).outlineStyle`); got == "none" {
		t.Error("nothing shows where the focus is")
	}
	must(t, ctx, chromedp.KeyEvent("transcode_1388"), until(`document.querySelectorAll('#dead li').length === 1`),
		until(`document.querySelectorAll('#failures li').length === 0`))
	if got := value[string](t, ctx, `document.querySelector('#failures ~ .empty').textContent`); got != "Nothing here fits the filter." {
		t.Errorf("the empty list says %q", got)
	}
	// On to the dead letter: fold it out, and requeue it, which asks for the token.
	for range 30 {
		must(t, ctx, chromedp.KeyEvent(kb.Tab))
		if value[bool](t, ctx, `document.activeElement.tagName === 'SUMMARY'`) {
			break
		}
	}
	must(t, ctx, chromedp.KeyEvent(kb.Enter), until(`document.querySelectorAll('#dead pre').length === 3`))
	for range 10 {
		must(t, ctx, chromedp.KeyEvent(kb.Tab))
		if value[bool](t, ctx, `document.activeElement.textContent === 'Requeue'`) {
			break
		}
	}
	must(t, ctx, chromedp.KeyEvent(kb.Enter), until(`document.activeElement.id === 'token'`),
		typed("wrong"), chromedp.KeyEvent(kb.Enter),
		until(`document.getElementById('token-error').textContent !== ''`))
	if did := f.done(); len(did) > 0 {
		t.Fatalf("with a wrong token: %q", did)
	}
	must(t, ctx, typed(token), chromedp.KeyEvent(kb.Enter),
		until(`[...document.querySelectorAll('.toast')].some(e => e.textContent.includes('stands in the queue again'))`))
	if want := "requeue " + f.letters[0].ID + " false"; !slices.Contains(f.done(), want) {
		t.Errorf("did %q, want %q", f.done(), want)
	}
	if n := value[int](t, ctx, `Object.keys(sessionStorage).length + document.cookie.length`); n != 0 || value[bool](t, ctx, `JSON.stringify(localStorage).includes('horse')`) {
		t.Error("the token was kept somewhere")
	}
}

func (f *fake) done() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.did)
}

func TestCountsOnlyWithoutTheToken(t *testing.T) {
	url := site(t, httpauth.Rules{Token: token}, busy())
	ctx := tab(t, 1280)
	must(t, ctx, chromedp.Navigate(url), until(`document.getElementById('depth').textContent !== '–'`),
		until(`!document.getElementById('locked').hidden`))
	if text := value[string](t, ctx, `document.body.textContent`); strings.Contains(text, "transcode") || strings.Contains(text, "nightly") {
		t.Error("a record's text is shown without the token")
	}
	must(t, ctx, chromedp.Click(chromedp.CSS("#locked-unlock")), chromedp.SendKeys(chromedp.ID("token"), token+kb.Enter), until(filled))
	must(t, ctx, chromedp.Click(chromedp.CSS("#unlock")), until(`document.getElementById('details').hidden`))
}

// A list of sidecars that all run shows the one that does not work, and why.
func TestTheProblemOfASidecarIsShown(t *testing.T) {
	const problem = "the workers keep dying"
	f := busy()
	url := site(t, httpauth.Rules{Loopback: true}, f)
	ctx := tab(t, 1280)
	must(t, ctx, chromedp.Navigate(url), until(filled))
	f.set(func() { f.problem = problem })
	must(t, ctx, until(`document.getElementById('fleet').textContent.includes('`+problem+`')`))
	f.set(func() { f.problem = "" })
	must(t, ctx, until(`!document.getElementById('fleet').textContent.includes('`+problem+`')`))
}

func TestRedisAway(t *testing.T) {
	f := busy()
	url := site(t, httpauth.Rules{Loopback: true}, f)
	ctx := tab(t, 1280)
	must(t, ctx, chromedp.Navigate(url), until(filled))
	if n := value[int](t, ctx, `[...document.querySelectorAll('button')].filter(b => ['Requeue', 'Drop', 'Pause', 'Drain'].includes(b.textContent)).length`); n != 0 {
		t.Errorf("%d buttons for actions although there is no token", n)
	}
	f.set(func() { f.err = errors.New("dial tcp: connection refused") })
	must(t, ctx, until(`document.getElementById('banners').textContent.includes('Redis cannot be reached (connection refused)')`))
	f.set(func() { f.err = nil })
	must(t, ctx, until(`document.getElementById('banners').textContent === ''`))
}
