package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// longestCallback bounds the URL of a callback.
const longestCallback = 2048

// Callbacks calls back when tasks have ended.
type Callbacks interface {
	// Check returns what is wrong with a URL. It asks nobody.
	Check(url string) error
	// Promise keeps, before the task is sent, that its end will be told to the
	// URL; due is when the task can run at the earliest. It does nothing, and
	// returns false, when that was promised for the task before. Its error is
	// [messages.ErrStoreUnavailable].
	Promise(ctx context.Context, id, url string, due time.Time) (kept bool, err error)
	// Forget breaks the promise: the task was not sent.
	Forget(ctx context.Context, id string)
	// Get returns [messages.ErrNotFound] where nothing was promised.
	Get(ctx context.Context, id string) (*Callback, error)
}

// CallbackState is how far a callback has come.
type CallbackState string

// The states of a callback.
const (
	CallbackWaiting    CallbackState = "waiting"    // for the task
	CallbackDelivering CallbackState = "delivering" // it was tried, and will be again
	CallbackDelivered  CallbackState = "delivered"
	CallbackFailed     CallbackState = "failed" // it is not tried again
)

// Callback is what has become of the promise to call back.
type Callback struct {
	TaskID      string            `json:"task_id" doc:"Id of the task."`
	WebhookID   string            `json:"webhook_id" doc:"Header webhook-id of every attempt."`
	URL         string            `json:"url" doc:"What is called, without its query."`
	State       CallbackState     `json:"state" enum:"waiting,delivering,delivered,failed" doc:"waiting for the task to end; delivering, tried and to be tried again; delivered; failed, not tried again."`
	Attempts    int               `json:"attempts" doc:"How often it was tried."`
	Latest      []CallbackAttempt `json:"latest" nullable:"false" doc:"The attempts, the 20 newest of them, the newest last."`
	NextAttempt *time.Time        `json:"next_attempt" doc:"When it is tried again."`
}

// CallbackAttempt is one attempt to call back.
type CallbackAttempt struct {
	At     time.Time `json:"at" doc:"When it began."`
	Took   float64   `json:"took" doc:"How long it took in seconds."`
	Status *int      `json:"status" doc:"The HTTP status of the answer; null when there was none."`
	Error  string    `json:"error,omitempty" doc:"Why it failed."`
}

// ShowTask is a task as callbacks and events show it: a long result is left out.
func ShowTask(r *messages.Result) (json.RawMessage, error) {
	data, err := encodeJSON(listed(r))
	return data, err
}

// checkCallback is what is wrong with a callback_url, "" if nothing is.
func (a *API) checkCallback(url string) string {
	switch {
	case len(url) > longestCallback:
		return nameRule(url, longestCallback)
	case a.opts.Callbacks == nil:
		return "is not supported by this gateway"
	}
	if err := a.opts.Callbacks.Check(url); err != nil {
		return strings.TrimPrefix(err.Error(), "url: ")
	}
	return ""
}

// promise keeps the callback of a submission, where it has one, before anything
// is sent: afterwards a gateway that dies would have forgotten it. What it
// returns takes it back if the submission has failed for certain.
func (a *API) promise(ctx context.Context, s submission) (settle func(error), err error) {
	if s.callback == "" {
		return func(error) {}, nil
	}
	id := s.task.ID
	bounded, cancel := context.WithTimeout(ctx, a.opts.ReadTimeout)
	defer cancel()
	kept, err := a.opts.Callbacks.Promise(bounded, id, s.callback, s.task.ETA)
	if err != nil {
		p := problemOf(errors.Join(messages.ErrStoreUnavailable, messages.ErrNotSent, err))
		p.Detail, p.TaskID = "Redis does not answer, so the callback cannot be promised; nothing was sent", id
		return nil, p
	}
	return func(err error) {
		if kept && err != nil && certainlyNotSent(err) {
			forgetting, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opts.ReadTimeout)
			defer cancel()
			a.opts.Callbacks.Forget(forgetting, id)
		}
	}, nil
}

// getCallback is GET /v1/tasks/{id}/callback.
func (a *API) getCallback(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	none := newProblem(slugNoCallback, "the task was submitted without a callback_url, or that was too long ago")
	none.TaskID = c.name
	if a.opts.Callbacks == nil || nameRule(c.name, 255) != "" {
		return nil, none
	}
	var got *Callback
	err := a.shown(ctx, c.name)
	if err == nil {
		got, err = stored(ctx, a, func(ctx context.Context) (*Callback, error) { return a.opts.Callbacks.Get(ctx, c.name) })
	}
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return nil, none
	case err != nil:
		return nil, err
	}
	return jsonReply(http.StatusOK, got)
}
