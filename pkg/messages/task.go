package messages

import (
	"encoding/json"
	"time"
)

// Task is one task message, independent of how it travels. [Encode] writes it
// as a Celery protocol 2 message; [Decode] reads protocol 2, protocol 1 and the
// hybrid of both.
type Task struct {
	// ID identifies the task for its whole life: retries and redrives keep
	// it. Any non-empty string up to 255 bytes; ids made here are UUIDv7.
	ID string
	// Name is the kind of the task, such as "proj.add".
	Name string
	// Args is a JSON array and Kwargs a JSON object. Nil means empty.
	Args   json.RawMessage
	Kwargs json.RawMessage
	// Embed is the third element of the body (callbacks, errbacks, chain,
	// chord) as it came. Nil means none of them.
	Embed json.RawMessage

	// Retries is how often the task was retried before this attempt; 0 at
	// the first. Celery's header "retries".
	Retries int
	// Run counts redrives: 0 at first, raised by one each time the task is
	// sent again by hand. Our header "lovage_run".
	Run int
	// Attempts are those before this one, the oldest first, as far as they are
	// remembered. Our header "lovage_attempts", JSON.
	Attempts []PastAttempt
	// MaxRetries overrides the limit of the handler when it is not nil. Our
	// header "lovage_max_retries".
	MaxRetries *int
	// Queue is the work queue the task belongs to, which survives the way
	// through delays and dead letters. Our header "lovage_queue"; [Decode]
	// falls back to the routing key.
	Queue string
	// Created is when the task was submitted. Our header "lovage_created";
	// zero when the sender did not say and the id is not a UUIDv7.
	Created time.Time

	// ETA is the earliest time to run at, Expires the time after which the
	// task is not started any more. Zero means none.
	ETA     time.Time
	Expires time.Time
	// TimeLimit is the hard limit and SoftTimeLimit the soft one of one
	// attempt. Zero means that the handler's own applies.
	TimeLimit     time.Duration
	SoftTimeLimit time.Duration

	RootID     string
	ParentID   string
	Group      string
	GroupIndex *int
	Shadow     string
	Origin     string
	Lang       string
	ArgsRepr   string
	KwargsRepr string
	ReplyTo    string
	Priority   uint8
	// IgnoreResult asks that no result be stored.
	IgnoreResult bool
	// Retention is how long the result is kept. Zero means that the handler's
	// own applies. Our header "lovage_retention", in seconds.
	Retention           time.Duration
	ReplacedTaskNesting int
	// StampedHeaders names the stamps; Stamps holds their values as JSON-like
	// Go values (string, float64, bool, nil, []any, map[string]any).
	StampedHeaders []string
	Stamps         map[string]any

	// TraceParent and TraceState are W3C Trace Context.
	TraceParent string
	TraceState  string

	// Headers are the sender's own headers. What the broker adds (x-death
	// and its kin) never gets in here.
	Headers map[string]any
}

// Attempt names one attempt of a task: attempts are ordered by run, then by
// number. The task record in Redis refuses whatever is older than what it has
// seen.
type Attempt struct {
	ID string
	// Run is [Task].Run and Number is [Task].Retries.
	Run    int
	Number int
}

// Attempt returns the attempt that this message stands for.
func (t *Task) Attempt() Attempt {
	return Attempt{ID: t.ID, Run: t.Run, Number: t.Retries}
}

// Message is a task as it travels: AMQP basic properties, application headers
// and body, free of any client library.
type Message struct {
	// RoutingKey is the key it was delivered with. [Encode] leaves it empty.
	RoutingKey      string
	ContentType     string
	ContentEncoding string
	CorrelationID   string
	ReplyTo         string
	// MessageID is set to the task's id, to match a returned message.
	MessageID string
	// Expiration is only read: we never set a broker-side expiry on a task.
	Expiration string
	Priority   uint8
	// Headers hold string, bool, int32, float64, nil, []any and
	// map[string]any when they come from [Encode], and whatever the client
	// library made of the wire when they go to [Decode].
	Headers map[string]any
	Body    []byte
}
