package otlp

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Delivery bounds what the exports of one signal cost, and logs when a collector
// stops taking them and when it takes them again.
type Delivery struct {
	metrics   bool // and not spans
	timeout   time.Duration
	log       *slog.Logger
	endpoint  string // without a password
	closeIdle func()

	ctx context.Context // of every export, until cut
	cut context.CancelFunc
	// repeating ends when a stop begins: a try that has failed is not repeated then.
	repeating context.Context
	last      context.CancelFunc

	mu   sync.Mutex
	lost time.Time // since when nothing gets through; zero while it does
}

func newDelivery(c connection) *Delivery {
	d := &Delivery{timeout: c.Timeout, log: c.Log, endpoint: c.url.Redacted(), closeIdle: c.http.CloseIdleConnections}
	d.ctx, d.cut = context.WithCancel(context.Background())
	d.repeating, d.last = context.WithCancel(d.ctx)
	return d
}

// Pauses between the tries of one export.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 5 * time.Second
)

// failureKey is where an export's context has what to do when a try has failed.
type failureKey struct{}

// tryFailed is called by the transports when a try has failed, on the goroutine of its
// export. From a stop on it is the last one.
func tryFailed(ctx context.Context) {
	if f, ok := ctx.Value(failureKey{}).(func()); ok {
		f()
	}
}

// export calls do, and logs its error where it is the first of a row. It returns no
// error: the SDK would only log it once more.
func (d *Delivery) export(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	var stop func() bool
	err := do(context.WithValue(ctx, failureKey{}, func() {
		if stop == nil {
			stop = context.AfterFunc(d.repeating, cancel)
		}
	}))
	if stop != nil {
		stop()
	}
	d.note(err)
	return nil
}

// Stop calls shutdown, which is the SDK's and exports what is left, and returns when
// everything has stopped. At the end of ctx the exports are cut. A collector that
// does not answer is no error: it was logged once.
func (d *Delivery) Stop(ctx context.Context, shutdown func(context.Context) error) {
	d.last()
	// The SDK would return at the end of ctx and leave its goroutine behind. It gets
	// no end, and the exports that it waits for do.
	defer context.AfterFunc(ctx, d.cut)()
	_ = shutdown(context.Background())
	d.cut()
	d.closeIdle()
}

// note logs the first failure of a row, and its end.
func (d *Delivery) note(err error) {
	if err != nil && isHint(err) {
		err = nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil && !d.lost.IsZero():
		after := time.Since(d.lost).Round(time.Millisecond).String()
		d.lost = time.Time{}
		if d.metrics {
			d.log.Info("metrics are delivered again", "after", after)
		} else {
			d.log.Info("traces are delivered again", "after", after)
		}
	case err != nil && d.lost.IsZero():
		d.lost = time.Now()
		if d.metrics {
			d.log.Warn("metrics cannot be delivered and are dropped", "endpoint", d.endpoint, "error", bounded(err.Error()))
		} else {
			d.log.Warn("traces cannot be delivered and are dropped", "endpoint", d.endpoint, "error", bounded(err.Error()))
		}
	}
}

// isHint reports whether the collector has taken everything and adds advice. The
// SDK's type for that is internal.
func isHint(err error) bool {
	text := err.Error()
	return strings.Contains(text, "OTLP partial success: ") &&
		(strings.HasSuffix(text, " (0 spans rejected)") || strings.HasSuffix(text, " (0 metric data points rejected)"))
}

// bounded is the text of an error as a log can take it: the SDK quotes answers of up
// to 4 MB, which may be binary or a page of HTML.
func bounded(text string) string {
	const most = 300
	text = strings.ToValidUTF8(text[:min(len(text), most)], "\uFFFD")
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}
