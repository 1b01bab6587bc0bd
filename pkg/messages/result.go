package messages

import (
	"encoding/json"
	"time"
)

// Result is what is known about a task: the record of Celery's Redis result
// backend with its extended fields, and ours beside them. It is stored under
// [ResultKey] and published on the channel of the same name.
type Result struct {
	TaskID string
	State  State
	// Value is the result of a SUCCESS, the meta data of a PROGRESS or
	// STARTED, and empty when Error is set. Raw JSON.
	Value json.RawMessage
	// Packed is the Value of a SUCCESS in the compressed form in which it is
	// stored, empty for any other; PackedSize is the size of that Value.
	// [Result.Pack] and [Result.Unpack] lead from one to the other.
	Packed     []byte
	PackedSize int
	// Error says why a RETRY, FAILURE or REVOKED came about.
	Error *TaskError
	// Reason is set when the task became a dead letter. Written as
	// "dead_reason".
	Reason Reason
	// Progress is set in state PROGRESS when the worker is one of ours.
	Progress *ProgressInfo

	// Children is Celery's list of child results, as it came.
	Children json.RawMessage
	GroupID  string
	ParentID string
	RootID   string
	Name     string
	Args     json.RawMessage
	Kwargs   json.RawMessage
	Worker   string
	Retries  int
	Queue    string
	// Run is [Task].Run.
	Run int
	// Attempts are those that have ended before the present or last one; that of
	// a RETRY is among them. Written as "attempts".
	Attempts []PastAttempt

	DateCreated time.Time
	DateStarted time.Time
	// DateDone is zero until the state is final.
	DateDone time.Time
	// NextAttempt is when a RETRY runs again, ETA when a delayed task may
	// start; zero otherwise.
	NextAttempt time.Time
	ETA         time.Time
	// Expires is the task's own; it prolongs the life of the record.
	Expires time.Time

	// Terms are what a submission can be found by beside all this, see
	// [Terms]. They are not part of the record.
	Terms []string
}

// RevokedError is the exception that Celery's clients raise for a task that was
// revoked (celery.exceptions.TaskRevokedError).
func RevokedError(why string) *TaskError {
	return &TaskError{Type: "TaskRevokedError", Module: celeryModule, Message: why}
}

// TaskError is an exception as Celery writes it.
type TaskError struct {
	// Type is the class name, such as "ValueError"; never empty.
	Type string
	// Message is the list of constructor arguments, joined for reading.
	Message string
	// Args is the list as it came; nil means a list of just Message.
	Args json.RawMessage
	// Module is where the class lives: "builtins", "lovage".
	Module string
	// Traceback is the stack as text, empty when there is none.
	Traceback string
}

// ProgressInfo is how far a running task has come.
type ProgressInfo struct {
	Current float64         `json:"current"`
	Total   float64         `json:"total"`
	Percent float64         `json:"percent"`
	Meta    json.RawMessage `json:"meta,omitempty"`
}

// ResultKey is the key and the channel of a task's result in Redis
// (celery/backends/base.py).
func ResultKey(id string) string { return "celery-task-meta-" + id }
