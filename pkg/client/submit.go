package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Options are what may be said about a task beside its input. The zero value
// leaves everything to the task.
type Options struct {
	// TaskID makes a second try safe: sent again with the same id, the task
	// runs once. The gateway makes an id when it is empty.
	TaskID string
	// IdempotencyKey makes a second try safe as well, and repeats the first
	// answer. It needs Redis, and cannot be given to an item of a batch.
	IdempotencyKey string
	// Queue is another work queue than the task's own.
	Queue string
	// Countdown or ETA, not both, delay the start.
	Countdown time.Duration
	ETA       time.Time
	// Expires is when the task is not started any more.
	Expires time.Time
	// MaxRetries replaces the task's own limit, unless it is nil.
	MaxRetries *int
	// TimeLimit and SoftTimeLimit are those of one attempt.
	TimeLimit, SoftTimeLimit time.Duration
	// IgnoreResult keeps no record. Nobody can wait for such a task.
	IgnoreResult bool
	// Retention is how long the result is kept.
	Retention time.Duration
	// CallbackURL is called when the task has ended, see [Client.Callback]. The
	// gateway has to allow its host, and it needs Redis.
	CallbackURL string
	// Wait is how long the answer may be held for the task to end, a minute at
	// most. It cannot be given to an item of a batch. [Client.Wait] waits longer.
	Wait time.Duration
	// Timeout is how long RabbitMQ may take to confirm the task. It cannot be
	// given to an item of a batch.
	Timeout time.Duration
}

// options are those of the query and of the envelope.
func (o *Options) options() map[string]any {
	m := map[string]any{}
	set := func(name string, value any, given bool) {
		if given {
			m[name] = value
		}
	}
	set("task_id", o.TaskID, o.TaskID != "")
	set("queue", o.Queue, o.Queue != "")
	set("countdown", seconds(o.Countdown), o.Countdown != 0)
	set("eta", instant(o.ETA), !o.ETA.IsZero())
	set("expires", instant(o.Expires), !o.Expires.IsZero())
	if o.MaxRetries != nil {
		m["max_retries"] = *o.MaxRetries
	}
	set("time_limit", seconds(o.TimeLimit), o.TimeLimit != 0)
	set("soft_time_limit", seconds(o.SoftTimeLimit), o.SoftTimeLimit != 0)
	set("ignore_result", true, o.IgnoreResult)
	set("retention", seconds(o.Retention), o.Retention != 0)
	set("callback_url", o.CallbackURL, o.CallbackURL != "")
	return m
}

func (o *Options) header() http.Header {
	h := http.Header{}
	if o.IdempotencyKey != "" {
		h.Set("Idempotency-Key", quoted(o.IdempotencyKey))
	}
	if o.Wait > 0 {
		h.Set("Prefer", prefer(o.Wait))
	}
	if o.Timeout > 0 {
		h.Set("Request-Timeout", seconds(o.Timeout).String())
	}
	return h
}

// quoted writes a string as a structured field has it (RFC 8941).
func quoted(s string) string {
	b := []byte{'"'}
	for _, c := range []byte(s) {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return string(append(b, '"'))
}

// Submit submits a task of the catalog. The input is encoded as JSON and must
// come to an object; nil means an empty one. When it returns, RabbitMQ has
// confirmed the task; with a [Options].Wait the task may have ended as well,
// which its state tells.
func (c *Client) Submit(ctx context.Context, name string, input any, o Options) (*Task, error) {
	if input == nil {
		input = struct{}{}
	}
	q := url.Values{}
	for name, value := range o.options() {
		q.Set(name, fmt.Sprint(value))
	}
	return c.submit(ctx, call{path: path("v1", "tasks", name), query: q, header: o.header(), body: input})
}

// Envelope is the form for positional arguments, for tasks that are not in the
// catalog, whose Options must name a queue, and for the items of a batch.
type Envelope struct {
	Task string
	Args []any
	// Kwargs come to a JSON object.
	Kwargs  any
	Options Options
}

// MarshalJSON writes the envelope as the API takes it. Of the options those are
// left out that are no part of it.
func (e Envelope) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Task    string         `json:"task"`
		Args    []any          `json:"args,omitempty"`
		Kwargs  any            `json:"kwargs,omitempty"`
		Options map[string]any `json:"options,omitempty"`
	}{e.Task, e.Args, e.Kwargs, e.Options.options()})
}

// SubmitEnvelope submits any task, see [Envelope]. It promises what
// [Client.Submit] does.
func (c *Client) SubmitEnvelope(ctx context.Context, e Envelope) (*Task, error) {
	return c.submit(ctx, call{path: path("v1", "tasks"), header: e.Options.header(), body: e})
}

func (c *Client) submit(ctx context.Context, r call) (*Task, error) {
	r.method = http.MethodPost
	t := new(Task)
	if _, _, err := c.do(ctx, r, t); err != nil {
		return nil, err
	}
	return t, nil
}
