package protocol_test

import (
	"context"
	"fmt"
	"log" //nolint:depguard // an example for users, who have their own taste
	"net"
	"strings"

	"github.com/graflow/graflow-sidecar/protocol"
)

// A whole worker. It is run as: sidecar run -- ./words
func ExampleServe() {
	countWords := func(_ context.Context, t *protocol.Task) (any, error) {
		var record struct{ Text string }
		if err := t.Decode(&record); err != nil {
			return nil, err
		}
		return len(strings.Fields(record.Text)), nil
	}
	if err := protocol.Serve(context.Background(), countWords); err != nil {
		log.Fatal(err)
	}
}

// A task with parameters: customers is the result of the task of that name.
func ExampleRegister() {
	type in struct {
		Customers []string `json:"customers"`
		Limit     int      `json:"limit,omitempty"`
	}
	protocol.Register("clean", func(ctx protocol.Context, in in) ([]string, error) {
		for i, name := range in.Customers {
			in.Customers[i] = strings.TrimSpace(name)
			ctx.Progress(float64(i+1)/float64(len(in.Customers)), name)
		}
		_, err := ctx.Channel().Add(ctx, "cleaned", float64(len(in.Customers)))
		return in.Customers, err
	})
	if err := protocol.Serve(context.Background(), nil); err != nil {
		log.Fatal(err)
	}
}

func ExampleRetryable() {
	_ = func(_ context.Context, _ *protocol.Task) (any, error) {
		conn, err := net.Dial("tcp", "database:5432")
		if err != nil {
			// It may be there in a minute.
			return nil, protocol.Retryable(err)
		}
		return nil, conn.Close()
	}
}

func ExampleDecodeMessage() {
	m, err := protocol.DecodeMessage([]byte(`{"jsonrpc":"2.0","id":7,"result":{"status":"succeeded","value":[1,2]}}`))
	if err != nil {
		log.Fatal(err)
	}
	r, err := protocol.DecodeRunResult(m.Result)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s, %s\n", m.ID, r.Status, r.Value)
	// Output: 7: succeeded, [1,2]
}
