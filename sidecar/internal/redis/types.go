package redis

import (
	"errors"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// ErrGone says that the run is not a member (any more): it was reaped, it
// left, or Redis came back without it. Its claims are refused for good; the
// answer is a new run id. Use errors.Is.
var ErrGone = errors.New("run is gone")

// Claimed is one delivery of one record.
type Claimed struct {
	Delivery string // run + "." + Seq
	Seq      int64  // grows by one with every delivery of a run
	// Record is the queue's bytes, verbatim; only the first of them if there are
	// fewer than Length, where [Store.RecordParts] reads the whole.
	Record []byte
	Length int // bytes of the whole record
	// Losses is how many attempts this record has already used up: deliveries
	// lost to a crash, and counted delays. At MaxAttempts or above it must not
	// be run again: end it with a dead Report.
	Losses int
	// LoneRun says that the last loss was the death of a whole run, so that at
	// its last attempt the record should be alone in the sidecar, not merely
	// alone in its child.
	LoneRun bool
	// Counted says that Redis keeps a count of the record's losses, of 0, too, where a
	// worker ended that had not read it: Report.RecordSHA clears it.
	Counted bool
	// Kind is which of several kinds of worker is to run it: see [Routes]. 0
	// without them.
	Kind int
}

// Report ends one delivery.
type Report struct {
	Delivery   string
	TaskID     string // empty: unknown (undecodable record)
	GroupID    string // empty: no group
	CreatedAt  string // the record's number token, digit for digit
	SessionID  string
	RecordSize int // bytes, about: how best to look for it depends on that
	Success    bool
	// ErrorMessage is what the group's producer reads for a failure.
	ErrorMessage string
	// ErrorJSON, if set, is the same as a JSON string and is what is written:
	// it may hold what Go's strings cannot.
	ErrorJSON []byte
	// Timestamp is when the task ended; zero means now.
	Timestamp time.Time
	// Value is the result as JSON text. With Options.StoreValues it is written
	// to the task's channel key in the same step, if the report counts.
	Value []byte
	// RecordSHA is RecordSHA(record): it clears the record's attempts. Empty
	// where Claimed.Counted was false. With Dead it may be [ShaOfRecord].
	RecordSHA string
	// Dead makes this a dead letter; the failed completion is reported too.
	Dead *DeadLetter
}

// ShaOfRecord has Redis make the SHA-1 of a record, where the caller has read its
// head only.
const ShaOfRecord = "*"

// DeadLetter is what is kept of a record that will not be run (again), with the
// record itself, byte for byte as it is in flight.
type DeadLetter struct {
	Reason   string // a short constant
	Message  string // for people
	Stderr   string // the worker's last lines
	Attempts int
	At       time.Time // zero means now
}

// Verdict is what became of one report.
type Verdict string

// The verdicts. Every record ends as exactly one of the first four or Dead.
const (
	Completed        Verdict = "completed"          // counted at its group's barrier
	CompletedNoGroup Verdict = "completed-no-group" // nothing to count
	GroupOver        Verdict = "group-over"         // nobody waits for this group; nothing recorded
	Duplicate        Verdict = "duplicate"          // this task of this group was counted before
	Dead             Verdict = "dead"               // kept in the dead letters
	// Late: the delivery is not ours (any more). On a retry it also means
	// that the first try was applied.
	Late Verdict = "late"
	// Stale is Late for a run that is no member any more: what it held is or was
	// another run's to end, so that it is not known whether a first try was applied.
	Stale Verdict = "stale"
	// BadGroup: a key of the group has the wrong type or is no integer.
	// Nothing was changed; end the delivery with a dead Report, which then
	// leaves the group alone.
	BadGroup Verdict = "bad-group"
)

// Release hands one delivery back to the end of the queue that we take from.
type Release struct {
	Delivery string
	Seq      int64
	// Lost counts one attempt: the process that ran it died.
	Lost bool
	// Unread says that the process died before it had read the record: that counts
	// as Lost does only where the death before was such a one, too.
	Unread bool
	// Shared says that the death took several tasks with it: such a death
	// never supplies the last attempt.
	Shared bool
	// Whole says that it was shared with other children: what is alone in its
	// child is not alone enough.
	Whole bool
	// MaxAttempts is the limit that Lost counts towards; below 1 means 1.
	MaxAttempts int
	// Record is needed with Lost and Unread: attempts are counted by its SHA-1.
	Record []byte
}

// Released is what became of one Release.
type Released struct {
	// Late: the delivery is not ours (any more); nothing was changed. On a
	// retry it also means that the first try was applied.
	Late bool
	// Exhausted: the loss was the last attempt. The delivery was not requeued:
	// it stays in flight until a dead Report ends it.
	Exhausted bool
	// Counted: an Unread one has used up an attempt.
	Counted bool
	// Losses is how many attempts are counted now (only for Lost and Unread).
	Losses int
}

// Delay puts one delivery aside for a while.
type Delay struct {
	Delivery string
	After    time.Duration // measured by Redis' own clock
	// Count uses up one attempt.
	Count bool
	// Isolate says that the record must run alone in a sidecar: [Store.TakeIsolated]
	// hands it out before its time, to one that is idle. After each death that it
	// shared at its last attempt the time is twice as long, up to ten minutes. It
	// goes without Count.
	Isolate bool
	// Record is needed with Count and Isolate: attempts are counted by its SHA-1.
	Record []byte
}

// TickResult is what one Tick saw and did.
type TickResult struct {
	// Dead are member runs that have been without a lease for long enough. The
	// caller reaps them now; until somebody has, the next one is told of them too.
	Dead []string
	// Unfinished are runs that are gone but still have deliveries in flight or
	// an inbox: somebody died while reaping them. Reap them now.
	Unfinished []string
	Promoted   int  // delayed records that were due
	Drained    int  // records found in inboxes of gone runs
	InFlight   int  // records that the caller holds, as Redis has it
	Paused     bool // this run is
	AllPaused  bool // every run of the prefix is
	Orders     []fleet.Command
	Unrouted   int // records that wait for a run that takes them
	Isolated   int // records that wait for an idle run, see Delay
}

// Adopted is an exhausted record that Reap moved into the reaper's own
// in-flight hash. The reaper decodes it and ends it with a dead Report.
type Adopted struct {
	Delivery string // a delivery of the reaper's run
	Seq      int64
	Record   []byte // its first bytes, if there are fewer than Length
	Length   int    // bytes of the whole record
	Losses   int
}

// ReapResult is what a Reap did, also when it ended with an error.
type ReapResult struct {
	Returned  int // records back at the head of the queue
	Exhausted []Adopted
}
