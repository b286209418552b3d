package linear

import (
	"fmt"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// operation is what porcupine puts into an order. Its kinds are those of events. A push is
// one operation from its beginning to its acknowledgement.
type operation struct {
	history.Event
	// place is the number of the operation among those that Redis executed for this
	// partition, from 1; 0 for all others.
	place int
	// lost says that the reply of a push was lost, so that it may never have been applied.
	lost bool
	// delivery is the bit of the delivery that the operation is about. A retirement and the
	// kill of a worker concern several deliveries.
	delivery uint64
	success  bool // of a completion
	number   int  // by which a barrier is counted, or the index of a group's task
	expected any  // of the final operation: what Redis holds
}

// final is the last operation of each partition: a look at what Redis holds.
const final = "final"

// String describes an operation in a picture.
func (o *operation) String() string {
	var b strings.Builder
	b.WriteString(o.What)
	if o.lost {
		b.WriteString(", reply lost")
	}
	for _, part := range []string{o.Task, o.Group, o.Event.Delivery, o.Text} {
		if part != "" {
			fmt.Fprintf(&b, " %.120s", part)
		}
	}
	if o.Pid != 0 {
		fmt.Fprintf(&b, " pid %d", o.Pid)
	}
	if o.expected != nil {
		fmt.Fprintf(&b, " %+v", o.expected)
	}
	return b.String()
}

// byRedis reports whether Redis executed what an event tells. Redis has an order of its own.
func byRedis(what string) bool {
	switch what {
	case history.Completed, history.Value, history.Revoked, history.Counted, history.Published, history.Buried,
		history.Unburied, history.Returned, history.Added, history.Claimed, history.Delayed, history.Removed, history.Retired:
		return true
	}
	return false
}
