//go:build browser

package browser

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
	pages "github.com/graflow/graflow-sidecar/sidecar/internal/web/page"
)

var update = flag.Bool("update", false, "write the pictures in docs/images anew")

// patience is for whatever a browser on a loaded machine is waited for.
const patience = 90 * time.Second

// browser is one Chromium for all tests; each has a tab of its own.
var browser context.Context

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		worker()
		return
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sidecar-browser-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium()), chromedp.UserDataDir(dir),
		chromedp.NoSandbox, // it refuses to be root with one, and looks at our own page only
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.DisableGPU,
		chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true),
		chromedp.WSURLReadTimeout(patience))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	browser, cancel = chromedp.NewContext(ctx)
	defer cancel()
	if err := chromedp.Do(browser); err != nil {
		panic("no Chromium, see scripts/setup-chromium: " + err.Error())
	}
	return m.Run()
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return "chromium"
}

// tab opens a tab of the given width. What the page complains about on its
// console fails the test, but for what is expected.
func tab(t *testing.T, width int64, expected ...string) context.Context {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	ctx, late := context.WithTimeout(ctx, patience)
	t.Cleanup(func() { late(); cancel() })
	complain := func(text string) {
		for _, e := range expected {
			if strings.Contains(text, e) {
				return
			}
		}
		t.Errorf("the page complains: %s", text)
	}
	err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			complain(fmt.Sprintf("%+v", ev.ExceptionDetails))
		case *runtime.EventConsoleAPICalled:
			for _, arg := range ev.Args {
				complain(string(arg.Value))
			}
		case *page.EventJavascriptDialogOpening:
			t.Errorf("a dialog opened: %q", ev.Message)
			go func() {
				_, _ = chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
			}()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	call(t, ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 600,
	})
	return ctx
}

// call sends a command of the DevTools protocol.
func call[P, R any](t *testing.T, ctx context.Context, cmd cdp.Command[P, R], params P) R {
	t.Helper()
	r, err := chromedp.Call(ctx, cmd, params)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func must(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// until waits until a JavaScript expression is true. (chromedp's own Poll makes a
// function of a text, which the page's policy forbids.)
func until(expression string) chromedp.Action[chromedp.Void] {
	ask := chromedp.Evaluate[bool](expression)
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		pause := time.NewTicker(30 * time.Millisecond)
		defer pause.Stop()
		for {
			if yes, err := ask(ctx, t); yes {
				return nil
			} else if ctx.Err() != nil {
				return fmt.Errorf("never true: %s: %w", expression, err)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("never true: %s", expression)
			case <-pause.C:
			}
		}
	})
}

// does evaluates an expression for what it does.
func does(expression string) chromedp.Action[chromedp.Void] {
	return chromedp.Evaluate[chromedp.Void](expression)
}

// value is that of a JavaScript expression.
func value[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// site is the page with made-up contents.
func site(t *testing.T, rules httpauth.Rules, f *fake) string {
	t.Helper()
	failures := &pages.Failures{}
	for _, one := range failed(f.began) {
		failures.Add(one)
	}
	p := pages.New(pages.Options{
		Access: rules, Source: f, Actions: f, Failures: failures,
		Why: func(error) string { return "connection refused" }, Log: slog.New(slog.DiscardHandler),
		Prefix: "graflow", Version: "0.1.0", Interval: pause(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	server := &httptest.Server{Listener: listen(t), Config: &http.Server{Handler: p.Handler(), ReadHeaderTimeout: time.Second}}
	server.Start()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return server.URL
}

// pause is between two looks at made-up contents: for a picture the charts are to
// have half a minute of them, and otherwise the browser is to have rest.
func pause() time.Duration {
	if *update {
		return 50 * time.Millisecond
	}
	return 300 * time.Millisecond
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// picture keeps a picture of the page, with -update, when it has a picture's size and
// the actions have been done.
func picture(t *testing.T, ctx context.Context, name string, before ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if !*update {
		return
	}
	size := emulation.SetDeviceMetricsOverrideParams{Width: 1240, Height: 1330, DeviceScaleFactor: 1}
	if strings.Contains(name, "phone") {
		size.Width, size.Height, size.Mobile = 360, 1560, true
	}
	call(t, ctx, emulation.SetDeviceMetricsOverride, size)
	must(t, ctx, before...)
	png := call(t, ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng}).Data
	if len(png) > 200<<10 {
		t.Errorf("%s has %d bytes: a repository is no place for large pictures", name, len(png))
	}
	if err := os.WriteFile(filepath.Join("..", "..", "..", "docs", "images", name), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
