package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
)

var (
	errFakeClosed  = errors.New("fake: connection closed")
	errFakeRefused = errors.New("fake: NOAUTH")
	errFakeAway    = errors.New("fake: connection refused")
)

// fakeRedis is Redis as the actors see it, in memory and in a bubble of
// testing/synctest: every record is in the queue, in flight or ended.
type fakeRedis struct {
	mu       sync.Mutex
	queue    []string          // head first
	inflight map[string]string // delivery → record
	ended    map[string]string // record → outcome
	seq      int64
	member   string // the run
	arrived  chan struct{}
	unwait   chan struct{} // ends a wait, by unblock
	cut      chan struct{} // closed: the claim stage's connections are gone
	closed   chan struct{} // closed: all connections are gone
	late     []string      // what was said after that
	stubborn string        // the stage whose calls do not come back when asked to stop
	faulty   string        // the stage whose calls are refused for good
	broken   string        // the stage whose calls panic
	away     bool          // no ping gets through
	down     bool          // no call gets through
	kinds    int           // of workers, whose turns the records are; 0 is one
	stateOf  func() State  // of the sidecar
	said     State         // what the sidecar said last of its state, out of its turn
}

func newFakeRedis(stubborn string, records ...string) *fakeRedis {
	return &fakeRedis{
		queue: records, inflight: make(map[string]string), ended: make(map[string]string),
		arrived: make(chan struct{}, 1), unwait: make(chan struct{}, 1),
		cut: make(chan struct{}), closed: make(chan struct{}), stubborn: stubborn,
	}
}

func (f *fakeRedis) backend(a *App) backend {
	f.kinds, f.stateOf = len(a.cfg.Kinds), func() State { return State(a.state()) }
	return backend{
		Redis: testhook.Redis{
			Source: fakeSource{f}, Outcomes: fakeOutcomes{f}, Leases: fakeLeases{f}, Ping: f.ping, Close: f.close,
		},
		requests: fakeRequests{f}, checkIdle: func(context.Context) {},
		unblock: func(context.Context) error {
			select {
			case f.unwait <- struct{}{}:
			default:
			}
			return nil
		},
		closeClaims: sync.OnceFunc(func() { close(f.cut) }), closeReports: func() {}, closeLeases: func() {}, closeRequests: func() {}, closeLast: func() {},
	}
}

func (f *fakeRedis) close() error {
	if f.stubborn == "redis" {
		time.Sleep(500 * time.Millisecond)
	}
	if f.broken == "redis" {
		panic("redis is broken")
	}
	close(f.closed)
	return nil
}

// do is one call by a stage.
func (f *fakeRedis) do(stage string, call func()) error {
	time.Sleep(time.Millisecond) // the round trip
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
		f.late = append(f.late, stage)
		return errFakeClosed
	default:
	}
	switch stage {
	case f.broken:
		panic(stage + " is broken")
	case f.faulty:
		return errFakeRefused
	}
	if f.down {
		return errFakeAway
	}
	call()
	return nil
}

func (f *fakeRedis) ping(ctx context.Context) error {
	if f.stubborn == "health" {
		time.Sleep(time.Second) // go-redis sees a deadline, and no cancellation
	}
	away := false
	if err := f.do("health", func() { away = f.away }); err != nil {
		return err
	}
	if away {
		return errFakeAway
	}
	return nil
}

// registered is the run that is a member.
func (f *fakeRedis) registered() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.member
}

// set changes how calls end from now on.
func (f *fakeRedis) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// state sorts every record into one place.
func (f *fakeRedis) state() (queue, inflight, ended []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.inflight {
		inflight = append(inflight, r)
	}
	for r, outcome := range f.ended {
		ended = append(ended, r+" "+outcome)
	}
	slices.Sort(inflight)
	slices.Sort(ended)
	return slices.Clone(f.queue), inflight, ended
}

type fakeSource struct{ *fakeRedis }

func (f fakeSource) Load(context.Context, context.Context, task.Task) ([]byte, error) {
	return nil, errors.New("fake: no record is cut")
}

func (f fakeSource) Claim(ctx context.Context, _ string, limit int) (ts []task.Task, err error) {
	if f.stubborn == "claim" && len(f.inflightNow()) > 0 {
		select { // the reply does not come
		case <-f.cut:
			return nil, errFakeClosed
		case <-time.After(time.Hour):
		}
	}
	absent := false
	err = f.do("claim", func() {
		if absent = f.member == ""; absent {
			return
		}
		for len(f.queue) > 0 && len(ts) < limit {
			f.seq++
			delivery := fmt.Sprintf("%s.%d", f.member, f.seq)
			f.inflight[delivery] = f.queue[0]
			ts = append(ts, task.Task{
				Delivery: delivery, Seq: f.seq, Attempt: 1, ClaimedAt: time.Now(), Kind: int(f.seq) % max(f.kinds, 1),
				Record: fmt.Appendf(nil, `{"task_id":%q}`, f.queue[0]),
			})
			f.queue = f.queue[1:]
		}
	})
	if absent {
		// Not "nothing is there": the claim stage would wait a whole second.
		err = errors.New("no run is registered")
	}
	return ts, err
}

func (f *fakeRedis) inflightNow() []string {
	_, inflight, _ := f.state()
	return inflight
}

func (f fakeSource) Wait(context.Context) (bool, error) {
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case <-f.arrived:
		return true, nil
	case <-f.unwait:
	case <-timer.C:
	}
	return false, nil
}

// Recover is the same for all: a pause, unless the connections are gone.
func (f *fakeRedis) Recover(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, errFakeClosed) && ctx.Err() == nil:
		return link.ErrClosed
	case errors.Is(err, errFakeRefused):
		return &link.RefusedError{Err: err}
	}
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

type fakeOutcomes struct{ *fakeRedis }

func (f fakeOutcomes) Report(ctx context.Context, route report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	if f.stubborn == "report" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	verdicts := make([]report.Verdict, len(batch))
	err := f.do("report", func() {
		batch := slices.Clone(batch)
		slices.SortFunc(batch, func(a, b task.Outcome) int { return int(b.Task.Seq - a.Task.Seq) })
		for i, o := range batch {
			record, ok := f.inflight[o.Task.Delivery]
			if !ok {
				verdicts[i] = report.NotInFlight
				continue
			}
			delete(f.inflight, o.Task.Delivery)
			if route == report.Requeue {
				f.queue = append([]string{record}, f.queue...)
				verdicts[i] = report.Returned
			} else {
				if _, twice := f.ended[record]; twice {
					f.late = append(f.late, record+" ended twice")
				}
				f.ended[record] = o.Conclusion.String()
				verdicts[i] = report.Verdict("completed")
			}
		}
	})
	return verdicts, err
}

// fakeRequests has every channel hold nothing.
type fakeRequests struct{ *fakeRedis }

func (f fakeRequests) Serve(ctx context.Context, _ *task.Task, _ string, _ *protocol.TaskRequest) ([]byte, error) {
	for {
		if f.do("request", func() {}) == nil {
			return []byte(`{"found":false}`), nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (fakeRequests) Inputs(context.Context, *task.Task, []string) ([]protocol.Input, error) {
	return nil, nil
}

func (fakeRequests) Ended(*task.Task) {}

type fakeLeases struct{ *fakeRedis }

func (f fakeLeases) Register(_ context.Context, run string) error {
	return f.do("lease", func() { f.member = run })
}

func (f fakeLeases) Renew(_ context.Context, run string) (err error) {
	state := f.stateOf()
	if e := f.do("lease", func() {
		f.said = state
		if f.member != run {
			err = lease.ErrGone
		}
	}); e != nil {
		return e
	}
	return err
}

func (f fakeLeases) Tick(context.Context, string) ([]string, error) {
	if f.stubborn == "lease" {
		time.Sleep(time.Second) // as a ping does
	}
	return nil, f.do("lease", func() {})
}

func (f fakeLeases) Reap(context.Context, string, string) error { return nil }

// Leave returns what the run still holds, in its old order.
func (f fakeLeases) Leave(ctx context.Context, run string) error {
	if f.stubborn == "leave" {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.do("leave", func() {
		deliveries := make([]string, 0, len(f.inflight))
		for d := range f.inflight {
			deliveries = append(deliveries, d)
		}
		slices.SortFunc(deliveries, func(a, b string) int { return seqOf(b) - seqOf(a) })
		for _, d := range deliveries {
			f.queue = append([]string{f.inflight[d]}, f.queue...)
			delete(f.inflight, d)
		}
		f.member = ""
	})
}

func seqOf(delivery string) (n int) {
	_, _ = fmt.Sscan(delivery[strings.LastIndexByte(delivery, '.')+1:], &n)
	return n
}

// fakeServer is a local Redis.
type fakeServer struct {
	stubborn bool
	done     chan struct{}
	err      error
	once     sync.Once
}

func (s *fakeServer) Done() <-chan struct{} { return s.done }
func (s *fakeServer) Err() error            { return s.err }

func (s *fakeServer) die(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.done)
	})
}

func (s *fakeServer) Stop(ctx context.Context) error {
	if s.stubborn {
		select {
		case <-ctx.Done(): // killed then
		case <-s.done:
		}
	}
	s.die(nil)
	return nil
}
