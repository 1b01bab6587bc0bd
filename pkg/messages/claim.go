package messages

import "time"

// Verdict is the answer of the task record to a claim.
type Verdict string

// What a worker that holds a delivery has to do with it.
const (
	// VerdictRun: the delivery is yours, run it.
	VerdictRun Verdict = "RUN"
	// VerdictBusy: somebody holds a live lease on this attempt. Publish a
	// copy that comes back when the lease has run out, then ack.
	VerdictBusy Verdict = "BUSY"
	// VerdictFinal: this run has a final state. Publish what is still to be
	// published (Next), then ack.
	VerdictFinal Verdict = "FINAL"
	// VerdictStale: a newer attempt or run exists. Handle as FINAL.
	VerdictStale Verdict = "STALE"
	// VerdictCancelled: the task was cancelled. Settle REVOKED, then ack.
	VerdictCancelled Verdict = "CANCELLED"
)

// Next names the successor that must still be published for a settled
// attempt. It is stored with the outcome in one step, and cleared when the
// broker has confirmed the successor.
type Next string

// The successors.
const (
	NextNone  Next = ""
	NextRetry Next = "retry"
	NextDead  Next = "dead"
)

// Claim is what the task record answered to a claim.
type Claim struct {
	Verdict Verdict
	// Starts is how often this attempt was started, the start that this
	// claim allows included. The first start is counted by the claim itself,
	// a later one only when it begins: see results.Store.Begin.
	Starts int
	// Busy is how long the present owner's lease still runs.
	Busy time.Duration
	// Next is the successor that is still to be published.
	Next Next
	// Result is the stored record where Verdict is FINAL or STALE and Next
	// is not empty: the successor takes its reason and time from it.
	Result *Result
}

// Reason says why a message is a dead letter.
type Reason string

// The reasons.
const (
	ReasonRetriesExhausted Reason = "retries-exhausted"
	ReasonPermanent        Reason = "permanent"
	ReasonUndecodable      Reason = "undecodable"
	ReasonUnknownTask      Reason = "unknown-task"
	ReasonInvalidInput     Reason = "invalid-input"
	ReasonDeliveryLimit    Reason = "delivery-limit"
	// ReasonBroker: the broker dead-lettered it for a reason of its own
	// (a foreign TTL or length limit).
	ReasonBroker Reason = "broker"
)

// Reasons returns every reason.
func Reasons() []Reason {
	return []Reason{
		ReasonRetriesExhausted, ReasonPermanent, ReasonUndecodable, ReasonUnknownTask,
		ReasonInvalidInput, ReasonDeliveryLimit, ReasonBroker,
	}
}

// DeadLetter is what a message in a dead-letter queue says about itself, as
// flat headers "lovage_dead_*".
type DeadLetter struct {
	Reason    Reason
	Error     string
	Stack     string
	Queue     string
	Run       int
	Attempts  int
	Worker    string
	FirstTime time.Time
	LastTime  time.Time
}
