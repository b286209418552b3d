//go:build simulation

package simulation

import (
	"context"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// A failpoint is a moment at which the sidecar's memory and Redis may differ: before and
// after each call of a stage, and between an outcome in memory and its report. Each passage
// may kill, freeze or delay the sidecar. (The moments within a call, between its request and
// its reply, belong to the network: simnet.)

// at passes a failpoint.
func (m *member) at(point string, blocks bool) {
	w := m.world
	if w.plan.atPoint == 0 || len(w.plan.points) == 0 {
		return
	}
	rnd := m.chance(point)
	if rnd.Float64() >= w.plan.atPoint || w.isOver() || !m.isUp() {
		return
	}
	f, d := pick(rnd, w.plan.points...), time.Duration(rnd.Int64N(int64(15*time.Second)))
	w.hurt("at: "+point, m.name, false)
	switch {
	case f == killsAt:
		w.hurt(string(killsAt), "", false)
		m.kill("at " + point)
	case f == freezesAt:
		w.hurt(string(freezesAt), "", false)
		m.freeze(d, "at "+point)
	case f == delaysAt && blocks:
		w.hurt(string(delaysAt), point+" "+d.String(), true)
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-m.stopping:
		}
	}
}

// hookRedis puts failpoints around the calls of the stages.
func (m *member) hookRedis(r *testhook.Redis) {
	r.Source, r.Outcomes, r.Leases = pointSource{r.Source, m}, pointOutcomes{r.Outcomes, m}, pointLeases{r.Leases, m}
	if m.world.broken.redis != nil {
		m.world.broken.redis(r)
	}
}

func (m *member) hookSink(s rpc.Sink) rpc.Sink {
	if m.world.broken.sink != nil {
		s = m.world.broken.sink(s)
	}
	return pointSink{s, m}
}

type pointSource struct {
	claim.Source
	m *member
}

func (s pointSource) Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error) {
	s.m.at("before claim", true)
	ts, err := s.Source.Claim(ctx, nonce, limit)
	if len(ts) > 0 || err != nil {
		s.m.at("after claim", true)
	}
	return ts, err
}

func (s pointSource) Wait(ctx context.Context) (bool, error) {
	came, err := s.Source.Wait(ctx)
	if came {
		s.m.at("after wait", true)
	}
	return came, err
}

type pointOutcomes struct {
	report.Store
	m *member
}

func (o pointOutcomes) Report(ctx context.Context, how report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	o.m.at("before report", true)
	v, err := o.Store.Report(ctx, how, batch)
	o.m.at("after report", true)
	return v, err
}

type pointLeases struct {
	lease.Store
	m *member
}

func (l pointLeases) Register(ctx context.Context, run string) error {
	l.m.at("before register", true)
	err := l.Store.Register(ctx, run)
	l.m.at("after register", true)
	return err
}

func (l pointLeases) Renew(ctx context.Context, run string) error {
	l.m.at("before renew", true)
	return l.Store.Renew(ctx, run)
}

func (l pointLeases) Tick(ctx context.Context, run string) ([]string, error) {
	dead, err := l.Store.Tick(ctx, run)
	l.m.at("after tick", true)
	return dead, err
}

func (l pointLeases) Reap(ctx context.Context, run, dead string) error {
	l.m.at("before reap", true)
	err := l.Store.Reap(ctx, run, dead)
	l.m.at("after reap", true)
	return err
}

func (l pointLeases) Leave(ctx context.Context, run string) error {
	l.m.at("before leave", false)
	return l.Store.Leave(ctx, run)
}

// pointSink is between a worker's answer and the report. It must not block.
type pointSink struct {
	rpc.Sink
	m *member
}

func (s pointSink) Add(o task.Outcome) {
	s.m.at("before outcome", false)
	s.Sink.Add(o)
	s.m.at("after outcome", false)
}

func (s pointSink) AddAll(os []task.Outcome) {
	s.m.at("before outcome", false)
	s.Sink.AddAll(os)
	s.m.at("after outcome", false)
}

// breakage is a mistake that a test plants into all sidecars, or into Redis.
type breakage struct {
	redis  func(r *testhook.Redis)
	sink   func(s rpc.Sink) rpc.Sink
	script func(source string) string // changes a script when it is loaded
	plan   func(p *plan)              // changes the plan
}

// planted reports whether there is a mistake.
func (b breakage) planted() bool {
	return b.redis != nil || b.sink != nil || b.script != nil || b.plan != nil
}
