package main

import (
	"context"
	"os"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// hooksOf returns the hooks that the environment asks for. LIFECYCLE_BREAK=STAGE=FILE makes
// the next step of the stage panic once the file exists; LIFECYCLE_HANG=STAGE=FILE makes it
// hang.
func hooksOf() (hooks testhook.Set) {
	stage, file, ok := strings.Cut(os.Getenv("LIFECYCLE_BREAK"), "=")
	hang := false
	if !ok {
		stage, file, hang = strings.Cut(os.Getenv("LIFECYCLE_HANG"), "=")
	}
	if !ok && !hang {
		return hooks
	}
	b := breakage{stage, file, hang}
	hooks.Sink = func(s rpc.Sink) rpc.Sink { return breakingSink{b, s} }
	hooks.Redis = func(r *testhook.Redis) {
		ping, closing := r.Ping, r.Close
		r.Source, r.Outcomes, r.Leases = breakingSource{b, r.Source}, breakingOutcomes{b, r.Outcomes}, breakingLeases{b, r.Leases}
		r.Ping = func(ctx context.Context) error { b.at("health"); return ping(ctx) }
		r.Close = func() error { b.at("redis"); return closing() }
	}
	return hooks
}

type breakage struct {
	stage, file string
	hang        bool
}

func (b breakage) at(stage string) {
	if b.stage != stage {
		return
	}
	if _, err := os.Stat(b.file); err == nil {
		if b.hang {
			select {}
		}
		panic("broken for a test")
	}
}

type breakingSink struct {
	breakage
	rpc.Sink
}

func (b breakingSink) Add(o task.Outcome) {
	b.at("process")
	b.Sink.Add(o)
}

func (b breakingSink) AddAll(os []task.Outcome) {
	b.at("process")
	b.Sink.AddAll(os)
}

type breakingSource struct {
	breakage
	claim.Source
}

func (b breakingSource) Wait(ctx context.Context) (bool, error) {
	b.at("claim")
	return b.Source.Wait(ctx)
}

type breakingOutcomes struct {
	breakage
	report.Store
}

func (b breakingOutcomes) Report(ctx context.Context, route report.Disposition, batch []task.Outcome) ([]report.Verdict, error) {
	b.at("report")
	return b.Store.Report(ctx, route, batch)
}

type breakingLeases struct {
	breakage
	lease.Store
}

func (b breakingLeases) Tick(ctx context.Context, run string) ([]string, error) {
	b.at("lease")
	return b.Store.Tick(ctx, run)
}

func (b breakingLeases) Leave(ctx context.Context, run string) error {
	b.at("leave")
	return b.Store.Leave(ctx, run)
}
