package redis

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkClaimReport is the way of records through Redis: claimed in batches
// and reported in batches, a thousand to a group. One operation is one batch.
func BenchmarkClaimReport(b *testing.B) {
	for _, batch := range []int{1, 64, 256} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			e := onRedis(b, Options{})
			e.ctx = b.Context()
			run := e.run("w")
			n := 0
			var claiming, reporting time.Duration
			for b.Loop() {
				b.StopTimer()
				e.pushGroup(n, batch)
				b.StartTimer()
				start := time.Now()
				claimed, err := e.Claim(e.ctx, run, fmt.Sprint(n), batch)
				if err != nil || len(claimed) != batch {
					b.Fatalf("%d claimed, %v", len(claimed), err)
				}
				claiming += time.Since(start)
				reports := make([]Report, len(claimed))
				for i, c := range claimed {
					reports[i] = Report{
						Delivery: c.Delivery, TaskID: fmt.Sprint("task_", n+i), GroupID: fmt.Sprint("g", n/1000),
						CreatedAt: fmt.Sprint(1732335600+n+i, ".123456"), Success: true,
					}
				}
				start = time.Now()
				if _, err := e.Report(e.ctx, run, reports); err != nil {
					b.Fatal(err)
				}
				reporting += time.Since(start)
				n += batch
			}
			b.ReportMetric(float64(claiming.Nanoseconds())/float64(n), "claim-ns/record")
			b.ReportMetric(float64(reporting.Nanoseconds())/float64(n), "report-ns/record")
			b.ReportMetric(float64(n)/(claiming+reporting).Seconds(), "records/s")
		})
	}
}

// pushGroup pushes records as Graflow writes them.
func (e *env) pushGroup(from, count int) {
	e.t.Helper()
	values := make([]any, count)
	for i := range values {
		n := from + i
		values[i] = fmt.Sprintf(`{"task_id": "task_%d", "session_id": "8a2f4f0e3c", "graph_hash": "%064d", "trace_id": "%032d", "created_at": %d.123456, "group_id": "g%d", "parent_span_id": null}`,
			n, n/1000, n, 1732335600+n, from/1000)
	}
	if err := e.c.RPush(e.ctx, e.keys.queue(), values...).Err(); err != nil {
		e.t.Fatal(err)
	}
	e.set(e.o.Prefix+fmt.Sprint(":barrier:g", from/1000, ":expected"), "1000")
}

// BenchmarkClaimRouted claims one record of a kind that has a slot, where all
// that stands before it in the queue is of one that has none.
func BenchmarkClaimRouted(b *testing.B) {
	for _, before := range []int{0, lookAt - 1} {
		b.Run(fmt.Sprint("behind=", before), func(b *testing.B) {
			e := onRedis(b, Options{})
			e.ctx = b.Context()
			run := e.run("w")
			if before > 0 {
				e.pushGroup(0, before)
			}
			routes := KindDemand{[]string{"etl.*", "task_*"}, []int{1, 0}, time.Minute}
			n := 0
			for b.Loop() {
				b.StopTimer()
				e.push(job("etl.clean"))
				b.StartTimer()
				n++
				got, err := e.ClaimRouted(e.ctx, run, fmt.Sprint(n), routes)
				if err != nil || len(got.Claimed) != 1 || got.Remaining != before {
					b.Fatalf("%+v, %v", got, err)
				}
				b.StopTimer()
				e.report(run, Report{Delivery: got.Claimed[0].Delivery})
				b.StartTimer()
			}
		})
	}
}
