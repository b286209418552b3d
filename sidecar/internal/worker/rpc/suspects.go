package rpc

import (
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// suspect is something that looks like a message and is none (P59). It is judged
// when what it would have said had time to come in the right form: a print of an
// answer stands beside the answer.
type suspect struct {
	at      time.Time
	id      int64   // of the request that it answers; 0: that cannot be told
	among   []int64 // the tasks that ran when it came, where it cannot be told
	request []byte  // the id of a request of the worker; nil for an answer
	fault   bool    // the beginning of a message: if it stays without an id, the worker is replaced
	refusal bool    // an error response without an id (P10)
	why     string
}

// maxSuspects bounds how many requests are kept; of answers there is one for each
// task at most.
const maxSuspects = 1024

// suspects are the reader's own.
type suspects struct {
	finder protocol.MisframedFinder
	list   []suspect
	warned bool // of a message without a line end

	// What was found so far in a line over the limit.
	skipping bool
	message  bool // the line is itself meant as a message, and is dealt with at its end
	found    []protocol.Misframed
}

// due is when the first of them is to be judged.
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
