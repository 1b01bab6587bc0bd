package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// State is the state of a task. Tasks of Celery may have states of their own.
type State string

// The states of a task.
const (
	Pending  State = "PENDING"
	Received State = "RECEIVED" // Celery's workers only
	Started  State = "STARTED"
	InWork   State = "PROGRESS" // it runs and has said how far it is
	Retrying State = "RETRY"    // it waits for its next attempt
	Success  State = "SUCCESS"
	Failure  State = "FAILURE"
	Revoked  State = "REVOKED"
)

// Final reports whether a task in this state has ended.
func (s State) Final() bool { return s == Success || s == Failure || s == Revoked }

// Task is a task as it stood when the gateway answered. Times that are not known
// are zero.
type Task struct {
	TaskID string `json:"task_id"`
	State  State  `json:"state"`
	// Name and Queue are empty where the record does not say.
	Name  string `json:"name,omitempty"`
	Queue string `json:"queue,omitempty"`
	// Worker has or had the present or last attempt.
	Worker string `json:"worker,omitempty"`
	// Args and Kwargs are the input, in a task that was read by its id.
	Args   json.RawMessage `json:"args,omitempty"`
	Kwargs json.RawMessage `json:"kwargs,omitempty"`
	// Retries counts the attempts before this one.
	Retries int `json:"retries"`
	// Attempts are those before the present or last one, the oldest first, as
	// far as they are remembered.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Run counts how often the task was sent again by hand.
	Run      int       `json:"run"`
	Progress *Progress `json:"progress,omitempty"`
	// Result is what the handler returned, in state SUCCESS.
	Result json.RawMessage `json:"result,omitempty"`
	// ResultOmitted says, in a list, that the result is too long for it.
	ResultOmitted bool `json:"result_omitted,omitempty"`
	// Error is why the last attempt failed.
	Error    *TaskError `json:"error,omitempty"`
	ParentID string     `json:"parent_id,omitempty"`
	RootID   string     `json:"root_id,omitempty"`
	GroupID  string     `json:"group_id,omitempty"`

	DateCreated time.Time `json:"date_created,omitzero"`
	// DateStarted is the beginning of the present or last attempt.
	DateStarted time.Time `json:"date_started,omitzero"`
	DateDone    time.Time `json:"date_done,omitzero"`
	// NextAttempt is when a task in state RETRY runs again.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	ETA         time.Time `json:"eta,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
}

// Attempt is one that has ended.
type Attempt struct {
	// Run and Attempt number it: attempts count from 1 in each run.
	Run     int    `json:"run"`
	Attempt int    `json:"attempt"`
	State   State  `json:"state"`
	Worker  string `json:"worker,omitempty"`
	// Error is type and text, cut at 200 bytes.
	Error   string    `json:"error,omitempty"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
}

// Progress is how far a task has come. Total is 0 when it has not said.
type Progress struct {
	Current float64         `json:"current"`
	Total   float64         `json:"total"`
	Percent float64         `json:"percent"`
	Meta    json.RawMessage `json:"meta,omitempty"`
}

// TaskError is what made an attempt fail.
type TaskError struct {
	Type      string          `json:"type"`
	Message   string          `json:"message"`
	Module    string          `json:"module,omitempty"`
	Args      json.RawMessage `json:"args,omitempty"`
	Traceback string          `json:"traceback,omitempty"`
}

// Get reads a task.
func (c *Client) Get(ctx context.Context, id string) (*Task, error) {
	t, _, err := c.look(ctx, id, "", 0)
	return t, err
}

// look reads a task. With a wait the answer comes when the task is final or,
// given the tag of what is known, when it has changed. The task is nil when
// nothing has.
func (c *Client) look(ctx context.Context, id, tag string, wait time.Duration) (*Task, string, error) {
	h := http.Header{}
	if wait > 0 {
		h.Set("Prefer", prefer(wait))
	}
	if tag != "" {
		h.Set("If-None-Match", tag)
	}
	t := new(Task)
	status, header, err := c.do(ctx, call{method: http.MethodGet, path: path("v1", "tasks", id), header: h}, t)
	switch {
	case err != nil:
		return nil, "", err
	case status == http.StatusNotModified:
		return nil, tag, nil
	}
	return t, header.Get("ETag"), nil
}

// Callback is what has become of a call that was asked for by
// [Options].CallbackURL.
type Callback struct {
	TaskID string `json:"task_id"`
	// WebhookID is the header of that name in every attempt.
	WebhookID string `json:"webhook_id"`
	// URL is what is called, without its query.
	URL string `json:"url"`
	// State is "waiting" for the task, "delivering" between two attempts,
	// "delivered" or "failed".
	State string `json:"state"`
	// Attempts is how often it was tried; Latest has the 20 newest.
	Attempts int               `json:"attempts"`
	Latest   []CallbackAttempt `json:"latest"`
	// NextAttempt is zero when there is none.
	NextAttempt time.Time `json:"next_attempt,omitzero"`
}

// CallbackAttempt is one attempt to call back.
type CallbackAttempt struct {
	At time.Time `json:"at"`
	// Took is in seconds.
	Took float64 `json:"took"`
	// Status is the HTTP status of the answer, 0 when there was none.
	Status int `json:"status,omitempty"`
	// Error is why it failed.
	Error string `json:"error,omitempty"`
}

// Callback says what has become of the callback of a task.
func (c *Client) Callback(ctx context.Context, id string) (*Callback, error) {
	return ask[Callback](ctx, c, http.MethodGet, path("v1", "tasks", id, "callback"), nil)
}

// Cancel revokes a task that has not ended. One that waits is revoked when it
// returns; the worker of one that runs is told to stop, which the state of the
// task shows a little later.
func (c *Client) Cancel(ctx context.Context, id string) (*Task, error) {
	return ask[Task](ctx, c, http.MethodPost, path("v1", "tasks", id, "cancel"), nil)
}

// Retry runs a task anew, under the same id, that has failed or was revoked.
func (c *Client) Retry(ctx context.Context, id string) error {
	_, err := ask[Task](ctx, c, http.MethodPost, path("v1", "tasks", id, "retry"), nil)
	return err
}
