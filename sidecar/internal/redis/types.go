package redis

import (
	"errors"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// ErrGone means that the run is not a member: it was reaped, it left, or Redis lost it.
// Its claims are refused permanently; the caller has to register a new run. Use
// errors.Is.
var ErrGone = errors.New("run is gone")

// Claimed is one delivery of one record.
type Claimed struct {
	Delivery string // run + "." + Seq
	Seq      int64  // grows by one with every delivery of a run
	// Record is the record as it was in the queue, byte for byte. If it is shorter than
	// Length it is only the head, and [Store.RecordParts] reads the whole.
	Record []byte
	Length int // bytes of the whole record
	// Losses is the number of used attempts of the record: deliveries lost to a crash, and
	// counted delays. At MaxAttempts or above the record must not be run again: end it with
	// a dead Report.
	Losses int
	// LostWithRun reports that the last loss was the death of a whole run. At its last
	// attempt the record should then run alone in the sidecar and not merely alone in its
	// worker process.
	LostWithRun bool
	// Counted reports that Redis stores a count for the record, possibly 0 after a worker
	// that ended before it had read the record. Report.RecordSHA clears it.
	Counted bool
	// Kind is the index of the kind of worker that runs the task: see [KindDemand]. It is
	// 0 without kinds.
	Kind int
}

// Report ends one delivery.
type Report struct {
	Delivery   string
	TaskID     string // empty if unknown (undecodable record)
	GroupID    string // empty without a group
	CreatedAt  string // the number token of the record, digit for digit
	SessionID  string
	RecordSize int // approximate bytes, which decide how the script looks up the record
	Success    bool
	// ErrorMessage is the error text for the producer of the group.
	ErrorMessage string
	// ErrorJSON, if set, is ErrorMessage as a JSON string and is written instead: it can
	// contain text that a Go string cannot.
	ErrorJSON []byte
	// Timestamp is the end of the task; zero means now.
	Timestamp time.Time
	// Value is the result as JSON text. It is written in the same step, if the report
	// counts: to the task's channel key with Options.StoreValues, or without a session
	// under the prefix, for Options.ResultTTL.
	Value []byte
	// RecordSHA is RecordSHA(record), which clears the attempts of the record. It is
	// empty if Claimed.Counted was false. With Dead it may be [ShaOfRecord].
	RecordSHA string
	// Dead makes the record a dead letter; a failed completion is also counted for its
	// group.
	Dead *DeadLetter
}

// ShaOfRecord makes Redis compute the SHA-1 of a record of which the caller has only the
// head.
const ShaOfRecord = "*"

// DeadLetter is stored with a record that will not be run (again), next to the record
// itself as it is in flight.
type DeadLetter struct {
	Reason   string // a short constant
	Message  string // for users
	Stderr   string // last lines of the worker
	Attempts int
	At       time.Time // zero means now
}

// Verdict is the result of one report.
type Verdict string

// The verdicts of a report. Every record ends with exactly one of the first four or Dead.
const (
	Completed        Verdict = "completed"          // counted at its group's barrier
	CompletedNoGroup Verdict = "completed-no-group" // nothing to count
	GroupOver        Verdict = "group-over"         // the barrier is not open; nothing recorded
	Duplicate        Verdict = "duplicate"          // this task of this group was counted before
	Dead             Verdict = "dead"               // stored as a dead letter
	// NotInFlight means that the delivery is not in flight in this run. For a repeated
	// call it means that the first call was applied.
	NotInFlight Verdict = "not-in-flight"
	// Stale is NotInFlight for a run that is not a member any more: another run ends its
	// records, and it is unknown whether a first call was applied.
	Stale Verdict = "stale"
	// BadGroup means that a key of the group has the wrong type or is not an integer.
	// Nothing was changed; end the delivery with a dead Report, which then does not touch
	// the group.
	BadGroup Verdict = "bad-group"
)

// Release requeues one delivery at the end of the queue that records are claimed from.
type Release struct {
	Delivery string
	Seq      int64
	// Lost counts one attempt: the worker process died.
	Lost bool
	// Unread means that the worker process died before it had read the record. It counts
	// like Lost only if the death before was of the same sort.
	Unread bool
	// Shared means that the death lost several tasks: such a loss never uses the last
	// attempt.
	Shared bool
	// Whole means that other worker processes died too, so that running alone in a worker
	// process is not enough.
	Whole bool
	// MaxAttempts is the limit for Lost; below 1 means 1.
	MaxAttempts int
	// Record is required with Lost and Unread: attempts are counted by its SHA-1.
	Record []byte
}

// Released is the result of one Release.
type Released struct {
	// NotInFlight means that the delivery is not in flight in this run; nothing was
	// changed. For a repeated call it also means that the first call was applied.
	NotInFlight bool
	// Exhausted means that the loss used the last attempt. The delivery was not requeued:
	// it stays in flight until a dead Report ends it.
	Exhausted bool
	// Counted means that an Unread loss has used an attempt.
	Counted bool
	// Losses is the number of used attempts (only for Lost and Unread).
	Losses int
}

// Delay delays one delivery.
type Delay struct {
	Delivery string
	After    time.Duration // by Redis' clock
	// Count uses one attempt.
	Count bool
	// Isolate means that the record must run alone in a sidecar: [Store.TakeIsolated]
	// gives it to an idle sidecar before it is due. Each shared loss at its last attempt
	// doubles the delay, up to ten minutes. It excludes Count.
	Isolate bool
	// Record is required with Count and Isolate: attempts are counted by its SHA-1.
	Record []byte
}

// TickResult is the result of one Tick.
type TickResult struct {
	// Dead are member runs without a lease for long enough. The caller has to reap them;
	// until one caller has done so, the next ones receive them too.
	Dead []string
	// Unfinished are gone runs with deliveries in flight or an inbox, whose reaper died.
	// The caller has to reap them.
	Unfinished []string
	Promoted   int  // delayed records that were due
	Drained    int  // records found in inboxes of gone runs
	InFlight   int  // records in flight of the caller, as stored in Redis
	Paused     bool // this run is paused
	AllPaused  bool // all runs of the prefix are paused
	Commands   []fleet.Command
	Unrouted   int // unrouted records
	Isolated   int // isolated records, see Delay
	// FormatRaised is the format of the keys if this tick has changed it, because all members
	// know it; else 0. FormatReplaced says that the key had a value that is no format.
	FormatRaised   int
	FormatReplaced bool
	// TrimDead means that there are more or older dead letters than are kept. The caller has
	// to call [Store.TrimDead].
	TrimDead bool
}

// Adopted is an exhausted record that Reap moved into the reaper's own in-flight hash.
// The reaper decodes it and ends it with a dead Report.
type Adopted struct {
	Delivery string // a delivery of the reaper's run
	Seq      int64
	Record   []byte // only the head if shorter than Length
	Length   int    // bytes of the whole record
	Losses   int
}

// ReapResult is the result of a Reap, also of one that ended with an error.
type ReapResult struct {
	Returned  int // records requeued at the head of the queue
	Exhausted []Adopted
}
