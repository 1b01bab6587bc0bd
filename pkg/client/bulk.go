package client

import (
	"context"
	"iter"
	"net/http"
	"time"
)

// BulkKind is what is done to many tasks.
type BulkKind string

// What can be done to many tasks.
const (
	BulkCancel BulkKind = "cancel" // those that have not ended
	BulkRetry  BulkKind = "retry"  // those that have failed or were revoked
	BulkDelete BulkKind = "delete" // those that have ended
)

// TaskBulk says which tasks are meant, and how fast. A filter that selects by
// nothing but states needs All. Limit is the largest number, 0 for all; Cursor is
// not used.
type TaskBulk struct {
	Filter

	All bool
	// Rate is the largest number a second, 0 for any.
	Rate int
}

// TaskOperation is a cancellation, a retry or a deletion of many tasks beside the
// requests.
type TaskOperation struct {
	ID     string         `json:"id"`
	Kind   BulkKind       `json:"kind"`
	State  OperationState `json:"state"`
	Filter TaskSelection  `json:"filter"`
	// Rate is the largest number a second, 0 for any.
	Rate int `json:"rate"`
	TaskCounts

	// More says that it has left some because of its limit.
	More bool `json:"more"`
	// Cancelling says that it was asked to stop and has not yet.
	Cancelling bool      `json:"cancelling"`
	Started    time.Time `json:"started"`
	// Updated is when it last got further.
	Updated time.Time `json:"updated"`
	Ended   time.Time `json:"ended,omitzero"`
	// Error is why it has failed, or what keeps it from getting further.
	Error string `json:"error,omitempty"`
}

// TaskCounts are what became of tasks.
type TaskCounts struct {
	// Matched is how many were dealt with.
	Matched   int `json:"matched"`
	Cancelled int `json:"cancelled"`
	// Stopping are those whose workers were told to stop.
	Stopping int `json:"stopping"`
	Retried  int `json:"retried"`
	Deleted  int `json:"deleted"`
	// Left are as they were: something else has become of them meanwhile, they
	// are Celery's, or their record says too little.
	Left int `json:"left"`
}

// TaskSelection is what an operation on tasks was asked for.
type TaskSelection struct {
	States []State           `json:"states"`
	Name   string            `json:"name,omitempty"`
	Queue  string            `json:"queue,omitempty"`
	Worker string            `json:"worker,omitempty"`
	Error  string            `json:"error,omitempty"`
	ID     string            `json:"id,omitempty"`
	Input  map[string]string `json:"input"`
	Since  time.Time         `json:"since,omitzero"`
	Until  time.Time         `json:"until,omitzero"`
	// Limit is the largest number, 0 for all.
	Limit int `json:"limit,omitempty"`
}

// Counted is how many tasks an operation would be about.
type Counted struct {
	Matched int `json:"matched"`
	// More says that there are more than were counted.
	More   bool `json:"more"`
	DryRun bool `json:"dry_run"`
}

// BeginBulk begins to do something to all tasks that are meant and that are there
// now, and returns at once. The operation goes on whoever listens, and survives
// its gateway. There is one at a time.
func (c *Client) BeginBulk(ctx context.Context, kind BulkKind, b TaskBulk) (*TaskOperation, error) {
	return bulk[TaskOperation](ctx, c, kind, b, false)
}

// CountBulk counts the tasks that are meant, up to 100,000, for up to 25 s, and
// does nothing.
func (c *Client) CountBulk(ctx context.Context, kind BulkKind, b TaskBulk) (*Counted, error) {
	return bulk[Counted](ctx, c, kind, b, true)
}

func bulk[T any](ctx context.Context, c *Client, kind BulkKind, b TaskBulk, dry bool) (*T, error) {
	q := b.selection()
	setInt(q, "limit", b.Limit)
	setInt(q, "rate", b.Rate)
	if b.All {
		q.Set("all", "true")
	}
	if dry {
		q.Set("dry_run", "true")
	}
	return ask[T](ctx, c, http.MethodPost, path("v1", "bulk", string(kind)), q)
}

// TaskOperations returns the newest operations on tasks, the newest first.
func (c *Client) TaskOperations(ctx context.Context) ([]TaskOperation, error) {
	list, err := ask[struct {
		Items []TaskOperation `json:"operations"`
	}](ctx, c, http.MethodGet, path("v1", "operations"), nil)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// TaskOperation reads how far an operation on tasks is.
func (c *Client) TaskOperation(ctx context.Context, id string) (*TaskOperation, error) {
	return ask[TaskOperation](ctx, c, http.MethodGet, path("v1", "operations", id), nil)
}

// CancelTaskOperation makes an operation stop between two tasks, about a second
// later. What was done is done.
func (c *Client) CancelTaskOperation(ctx context.Context, id string) (*TaskOperation, error) {
	return ask[TaskOperation](ctx, c, http.MethodPost, path("v1", "operations", id, "cancel"), nil)
}

// FollowTaskOperation yields an operation every second until it has ended, as
// [Client.FollowOperation] does.
func (c *Client) FollowTaskOperation(ctx context.Context, id string) iter.Seq2[*TaskOperation, error] {
	return follow(ctx, func(ctx context.Context) (*TaskOperation, error) { return c.TaskOperation(ctx, id) },
		func(o *TaskOperation) bool { return o.State.Final() })
}

// Delete deletes a task that has ended, with its result.
func (c *Client) Delete(ctx context.Context, id string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: path("v1", "tasks", id)}, nil)
	return err
}
