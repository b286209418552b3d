package rpc

import (
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// suspect is output that looks like a message but is not one (P59). It is judged when
// the correct form has had time to arrive: a worker may print an answer as well as send
// it.
type suspect struct {
	at      time.Time
	id      int64   // of the request that it answers; 0 if unknown
	among   []int64 // the tasks that ran when it came, if id is unknown
	request []byte  // the id of a request of the worker; nil for an answer
	fault   bool    // the beginning of a message: if no id follows, the worker is replaced
	refusal bool    // an error response without an id (P10)
	why     string
}

// maxSuspects bounds the number of requests that are kept. Of answers there is at most
// one for each task.
const maxSuspects = 1024

// suspects are the suspects of one child. Only the reader uses them.
type suspects struct {
	finder protocol.MisframedFinder
	list   []suspect
	warned bool // logged a message without a line end

	// What has been found in a line over the length limit.
	skipping bool
	found    []protocol.Misframed
}

// due returns when the first suspect is to be judged; zero if there is none.
func (s *suspects) due() time.Time {
	if len(s.list) == 0 {
		return time.Time{}
	}
	at := s.list[0].at
	for _, x := range s.list[1:] {
		if x.at.Before(at) {
			at = x.at
		}
	}
	return at
}
