package client

import (
	"context"
	"errors"
	"iter"
	"net/http"
	"time"
)

// OperationState is the state of an operation.
type OperationState string

// The states of an operation.
const (
	OperationRunning OperationState = "running"
	// OperationInterrupted: its gateway has stopped or died, and another one
	// goes on with it within seconds.
	OperationInterrupted OperationState = "interrupted"
	OperationDone        OperationState = "done"
	OperationCancelled   OperationState = "cancelled"
	OperationFailed      OperationState = "failed"
)

// Final reports whether an operation in this state has ended.
func (s OperationState) Final() bool {
	return s == OperationDone || s == OperationCancelled || s == OperationFailed
}

// Operation is a redrive or a discard of many dead letters beside the requests.
type Operation struct {
	ID string `json:"id"`
	// Kind is "redrive" or "discard".
	Kind   string          `json:"kind"`
	Queue  string          `json:"queue"`
	State  OperationState  `json:"state"`
	Filter OperationFilter `json:"filter"`
	// Rate is the largest number a second, 0 for any.
	Rate int `json:"rate"`
	// Looked is how many dead letters were looked at.
	Looked int `json:"looked"`
	Counts

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

// OperationFilter is what an operation was asked for.
type OperationFilter struct {
	Name   string    `json:"name,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Group  string    `json:"group,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
	// Limit is the largest number, 0 for all.
	Limit int `json:"limit,omitempty"`
}

// BeginRedrive begins to send dead letters again and returns at once. The
// operation goes on whoever listens, and survives its gateway. It means those
// that are there now: what fails again is not sent a second time.
func (c *Client) BeginRedrive(ctx context.Context, queue string, b Bulk) (*Operation, error) {
	return c.begin(ctx, queue, "redrive", b)
}

// BeginDiscard begins to throw dead letters away, as [Client.BeginRedrive] does
// to send them again.
func (c *Client) BeginDiscard(ctx context.Context, queue string, b Bulk) (*Operation, error) {
	return c.begin(ctx, queue, "discard", b)
}

func (c *Client) begin(ctx context.Context, queue, verb string, b Bulk) (*Operation, error) {
	o := new(Operation)
	_, _, err := c.do(ctx, call{
		method: http.MethodPost, path: path("v1", "queues", queue, verb), query: b.query(),
		header: http.Header{"Prefer": {"respond-async"}},
	}, o)
	if err != nil {
		return nil, err
	}
	return o, nil
}

// Operations returns the newest operations on a queue, the newest first.
func (c *Client) Operations(ctx context.Context, queue string) ([]Operation, error) {
	list, err := ask[struct {
		Items []Operation `json:"operations"`
	}](ctx, c, http.MethodGet, path("v1", "queues", queue, "operations"), nil)
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// Operation reads how far an operation is.
func (c *Client) Operation(ctx context.Context, queue, id string) (*Operation, error) {
	return ask[Operation](ctx, c, http.MethodGet, path("v1", "queues", queue, "operations", id), nil)
}

// CancelOperation makes an operation stop between two dead letters, about a
// second later. What was done is done.
func (c *Client) CancelOperation(ctx context.Context, queue, id string) (*Operation, error) {
	return ask[Operation](ctx, c, http.MethodPost, path("v1", "queues", queue, "operations", id, "cancel"), nil)
}

// FollowOperation yields an operation every second until it has ended. It goes
// on while the gateway is away for up to 30 s. An error is the last that it
// yields.
func (c *Client) FollowOperation(ctx context.Context, queue, id string) iter.Seq2[*Operation, error] {
	return follow(ctx, func(ctx context.Context) (*Operation, error) { return c.Operation(ctx, queue, id) },
		func(o *Operation) bool { return o.State.Final() })
}

func follow[T any](ctx context.Context, look func(context.Context) (*T, error), ended func(*T) bool) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for good := time.Now(); ; {
			bounded, cancel := context.WithTimeout(ctx, grace)
			o, err := look(bounded)
			cancel()
			switch {
			case err == nil:
				good = time.Now()
				if !yield(o, nil) || ended(o) {
					return
				}
			case ctx.Err() != nil || time.Since(good) > patience || refused(err):
				yield(nil, err)
				return
			}
			if !pause(ctx, time.Second) {
				yield(nil, ctx.Err())
				return
			}
		}
	}
}

// refused reports whether there is no use in asking again.
func refused(err error) bool {
	p, ok := errors.AsType[*Problem](err)
	return ok && !p.Retryable
}
