package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// task is a task as clients see it. Fields are added, never renamed or reused.
type task struct {
	TaskID string         `json:"task_id" doc:"Id of the task for its whole life." example:"0198c6a2-5c1e-7d3a-9b1f-2f4c8e1d7a90"`
	State  messages.State `json:"state" doc:"PENDING, RECEIVED, STARTED, PROGRESS, RETRY, SUCCESS, FAILURE or REVOKED; the last three are final. A Celery task may have states of its own." example:"PROGRESS"`
	Name   *string        `json:"name" doc:"Kind of the task, null when the record does not say."`
	Worker *string        `json:"worker" doc:"Worker of the present or last attempt."`
	Queue  *string        `json:"queue" doc:"Work queue."`
	// Args and Kwargs are shown of one task, and not in a list.
	Args    json.RawMessage `json:"args,omitempty" doc:"Positional arguments; of a task that is read by its id."`
	Kwargs  json.RawMessage `json:"kwargs,omitempty" doc:"The input; of a task that is read by its id."`
	Retries int             `json:"retries" doc:"Attempts before this one."`
	// Attempts are bounded by package messages.
	Attempts []messages.PastAttempt `json:"attempts,omitempty" doc:"Attempts that have ended before the present or last one, the ten newest; of a task that is read by its id."`
	Run      int                    `json:"run" doc:"How often the task was sent again by hand."`
	Progress *progress              `json:"progress" doc:"How far a running task has come."`
	// Result is null as well when the handler returned nothing.
	Result        json.RawMessage `json:"result" doc:"What the handler returned, in state SUCCESS; null otherwise."`
	ResultOmitted bool            `json:"result_omitted,omitempty" doc:"In a list: the result is too long, GET the task for it."`
	Error         *taskError      `json:"error" doc:"Why the last attempt failed, in the states RETRY, FAILURE and REVOKED."`
	ParentID      string          `json:"parent_id,omitempty" doc:"Task that sent this one."`
	RootID        string          `json:"root_id,omitempty" doc:"First task of the tree, where it is another one."`
	GroupID       string          `json:"group_id,omitempty" doc:"Group of the task."`
	DateCreated   *time.Time      `json:"date_created" doc:"When the task was submitted."`
	DateStarted   *time.Time      `json:"date_started" doc:"When the present or last attempt began."`
	DateDone      *time.Time      `json:"date_done" doc:"When the task reached its final state."`
	NextAttempt   *time.Time      `json:"next_attempt" doc:"When a task in state RETRY runs again."`
	ETA           *time.Time      `json:"eta" doc:"Earliest start of a delayed task."`
	Expires       *time.Time      `json:"expires" doc:"When the task is not started any more."`
}

// progress is how far a task has come, as its handler last said.
type progress struct {
	Current *float64        `json:"current" doc:"Done so far."`
	Total   *float64        `json:"total" doc:"All there is to do."`
	Percent *float64        `json:"percent" doc:"Current of total, 0 to 100."`
	Meta    json.RawMessage `json:"meta" doc:"Whatever else the handler said."`
}

// taskError is what made an attempt fail.
type taskError struct {
	Type      string          `json:"type" doc:"Class of the exception, such as ValueError."`
	Message   string          `json:"message"`
	Module    string          `json:"module,omitempty" doc:"Where the class lives."`
	Args      json.RawMessage `json:"args,omitempty" doc:"Arguments of the exception."`
	Traceback string          `json:"traceback,omitempty" doc:"The stack as text."`
}

// newTask shows a record.
func newTask(r *messages.Result) *task {
	t := &task{
		TaskID: r.TaskID, State: r.State, Name: text(r.Name), Worker: text(r.Worker), Queue: text(r.Queue),
		Retries: r.Retries, Run: r.Run, Progress: newProgress(r), ParentID: r.ParentID, GroupID: r.GroupID,
		DateCreated: instant(r.DateCreated), DateStarted: instant(r.DateStarted), DateDone: instant(r.DateDone),
		NextAttempt: instant(r.NextAttempt), ETA: instant(r.ETA), Expires: instant(r.Expires),
	}
	if r.RootID != r.TaskID {
		t.RootID = r.RootID
	}
	if r.State == messages.Success {
		t.Result = r.Value
	}
	if e := r.Error; e != nil {
		t.Error = &taskError{Type: e.Type, Message: e.Message, Module: e.Module, Args: e.Args, Traceback: e.Traceback}
	}
	return t
}

// wholeTask shows a record with the input of its task and what it remembers of
// its attempts.
func wholeTask(r *messages.Result) *task {
	t := newTask(r)
	t.Args, t.Kwargs, t.Attempts = r.Args, r.Kwargs, r.Attempts
	return t
}

// pendingJSON shows what pendingRecord returns, as newTask would: most answers
// are of this kind, and it takes a fraction of the time.
func pendingJSON(r *messages.Result) []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"task_id":`...)
	b = appendText(b, r.TaskID)
	b = append(b, `,"state":"PENDING","name":`...)
	b = appendText(b, r.Name) // neither is empty, else it would be null
	b = append(b, `,"worker":null,"queue":`...)
	b = appendText(b, r.Queue)
	b = append(b, `,"retries":0,"run":0,"progress":null,"result":null,"error":null,"date_created":`...)
	b = appendInstant(b, r.DateCreated)
	b = append(b, `,"date_started":null,"date_done":null,"next_attempt":null,"eta":`...)
	b = appendInstant(b, r.ETA)
	b = append(b, `,"expires":`...)
	b = appendInstant(b, r.Expires)
	return append(b, "}\n"...)
}

func appendInstant(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// newProgress reads the progress of our workers and, as far as its keys say
// current and total, that of a Celery task's update_state.
func newProgress(r *messages.Result) *progress {
	if p := r.Progress; p != nil {
		return &progress{Current: &p.Current, Total: &p.Total, Percent: &p.Percent, Meta: p.Meta}
	}
	if r.State != messages.Progress || len(r.Value) == 0 {
		return nil
	}
	p := &progress{Meta: r.Value}
	var meta struct{ Current, Total *float64 }
	if err := json.Unmarshal(r.Value, &meta); err != nil {
		return p
	}
	p.Current, p.Total = meta.Current, meta.Total
	if p.Current != nil && p.Total != nil && *p.Total > 0 {
		p.Percent = new(min(100, max(0, math.Round(*p.Current / *p.Total * 10_000)/100)))
	}
	return p
}

func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// etag is a strong entity tag of a body.
func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
}
