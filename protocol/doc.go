// Package protocol is the worker protocol of graflow-sidecar, version 1, for
// both sides of it. PROTOCOL.md beside this file is the normative text; comments
// and tests cite its rules by number (P1, P2 …).
//
// A worker needs Serve and nothing else:
//
//	func main() {
//		err := protocol.Serve(context.Background(), func(ctx context.Context, t *protocol.Task) (any, error) {
//			var record struct{ Text string }
//			if err := t.Decode(&record); err != nil {
//				return nil, err
//			}
//			return len(record.Text), nil
//		})
//		if err != nil {
//			log.Fatal(err)
//		}
//	}
//
// It is run as: sidecar run -- ./worker
//
// Register is for workers of several kinds of task, with typed parameters.
// Package conformance below this one tests whether a worker keeps the rules.
//
// The rest is for programs that speak the protocol without Serve, as the sidecar
// does. LineReader and LineWriter frame messages within bounded memory,
// DecodeMessage and the Append functions read and write them, DecodeRunResult and
// AppendTaskRun are those of a task. They are written by hand, and allocate
// nothing for a message of the usual kind; fuzz tests hold them to what
// encoding/json says.
//
// The package imports the standard library only.
package protocol
