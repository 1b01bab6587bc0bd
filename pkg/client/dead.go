package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// DeadLetter is a task that has failed for good.
type DeadLetter struct {
	// TaskID is empty when the message could not be read.
	TaskID string `json:"task_id"`
	Name   string `json:"name,omitempty"`
	// Reason is why it is here, such as "retries-exhausted".
	Reason string `json:"reason"`
	// Error is what the last attempt said.
	Error string `json:"error,omitempty"`
	// Group is the same for all that differ in numbers and quoted texts only.
	Group    string `json:"group"`
	Attempts int    `json:"attempts"`
	// Run counts how often it was sent again before.
	Run         int       `json:"run"`
	Worker      string    `json:"worker,omitempty"`
	DateCreated time.Time `json:"date_created,omitzero"`
	DateDead    time.Time `json:"date_dead,omitzero"`
}

// DeadLetterWhole is a dead letter with its input.
type DeadLetterWhole struct {
	DeadLetter

	// Args and Kwargs are null when the message cannot be read.
	Args   json.RawMessage `json:"args"`
	Kwargs json.RawMessage `json:"kwargs"`
	Stack  string          `json:"stack,omitempty"`
}

// DeadGroup is what dead letters have in common.
type DeadGroup struct {
	// Group selects them in a [DeadFilter].
	Group  string `json:"group"`
	Name   string `json:"name,omitempty"`
	Reason string `json:"reason"`
	// Error is that of the newest, and Example its task.
	Error   string    `json:"error,omitempty"`
	Count   int       `json:"count"`
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
	Example string    `json:"example"`
}

// DeadFilter selects dead letters. What is zero selects nothing.
type DeadFilter struct {
	Name, Reason, Group string
	// Since and Until are times of death; Until is exclusive.
	Since, Until time.Time
}

func (f *DeadFilter) query() url.Values {
	q := url.Values{}
	setText(q, "name", f.Name)
	setText(q, "reason", f.Reason)
	setText(q, "group", f.Group)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	return q
}

// DeadPage is a page of dead letters, the oldest first. NextCursor is empty at
// the end.
type DeadPage struct {
	DeadLetters []DeadLetter `json:"dead_letters"`
	NextCursor  string       `json:"next_cursor"`
}

// Dead lists the dead letters of a queue in the order in which they came. Limit
// is 1 to 200, or 0 for 50; the cursor is the NextCursor of the page before, or
// empty.
func (c *Client) Dead(ctx context.Context, queue string, f DeadFilter, limit int, cursor string) (*DeadPage, error) {
	q := f.query()
	setInt(q, "limit", limit)
	setText(q, "cursor", cursor)
	return ask[DeadPage](ctx, c, http.MethodGet, path("v1", "queues", queue, "dead"), q)
}

// DeadGroups counts the dead letters of a queue by task, reason and error, the
// largest group first.
func (c *Client) DeadGroups(ctx context.Context, queue string, f DeadFilter) ([]DeadGroup, error) {
	list, err := ask[struct {
		Items []DeadGroup `json:"groups"`
	}](ctx, c, http.MethodGet, path("v1", "queues", queue, "dead-groups"), f.query())
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// DeadLetter reads the dead letter of a task with its input.
func (c *Client) DeadLetter(ctx context.Context, queue, id string) (*DeadLetterWhole, error) {
	return ask[DeadLetterWhole](ctx, c, http.MethodGet, path("v1", "queues", queue, "dead", id), nil)
}

// RedriveOne sends the task of a dead letter again, with an input that comes to
// a JSON object instead of its own unless that is nil.
func (c *Client) RedriveOne(ctx context.Context, queue, id string, input any) error {
	_, _, err := c.do(ctx, call{method: http.MethodPost, path: path("v1", "queues", queue, "dead", id, "redrive"), body: input}, nil)
	return err
}

// DiscardOne throws the dead letter of a task away.
func (c *Client) DiscardOne(ctx context.Context, queue, id string) error {
	_, _, err := c.do(ctx, call{method: http.MethodDelete, path: path("v1", "queues", queue, "dead", id)}, nil)
	return err
}

// Bulk says which dead letters to work on, and how. A filter that selects
// nothing needs All.
type Bulk struct {
	DeadFilter

	All bool
	// Limit is the largest number, 1 to 100000. Without it a call works on
	// 1000, and an operation on all.
	Limit int
	// Rate is the largest number a second, 0 for any.
	Rate int
}

func (b *Bulk) query() url.Values {
	q := b.DeadFilter.query()
	if b.All {
		q.Set("all", "true")
	}
	setInt(q, "limit", b.Limit)
	setInt(q, "rate", b.Rate)
	return q
}

// Counts are what became of dead letters.
type Counts struct {
	// Matched is how many were meant.
	Matched   int `json:"matched"`
	Redriven  int `json:"redriven"`
	Discarded int `json:"discarded"`
	// Superseded were sent again before: they are gone from the dead letters,
	// and the task is as it is.
	Superseded int `json:"superseded"`
	// Undecodable cannot be read, so they stay.
	Undecodable int `json:"undecodable"`
	// Running are those of tasks that somebody runs, so they stay.
	Running int `json:"running"`
}

// Dealt is what a redrive or a discard has come to.
type Dealt struct {
	Counts

	// More says that there are more: ask again.
	More bool `json:"more"`
	// DryRun says that nothing was done.
	DryRun bool `json:"dry_run"`
}

// Redrive sends dead letters again within one call, which takes 25 s at most and
// stops when ctx ends. [Client.BeginRedrive] is for many.
func (c *Client) Redrive(ctx context.Context, queue string, b Bulk) (*Dealt, error) {
	return c.bulk(ctx, queue, "redrive", b, false)
}

// Discard throws dead letters away within one call, as [Client.Redrive] sends
// them again.
func (c *Client) Discard(ctx context.Context, queue string, b Bulk) (*Dealt, error) {
	return c.bulk(ctx, queue, "discard", b, false)
}

// Count tells in Matched how many dead letters are meant, up to the limit, and
// does nothing.
func (c *Client) Count(ctx context.Context, queue string, b Bulk) (*Dealt, error) {
	return c.bulk(ctx, queue, "redrive", b, true)
}

func (c *Client) bulk(ctx context.Context, queue, verb string, b Bulk, dry bool) (*Dealt, error) {
	q := b.query()
	if dry {
		q.Set("dry_run", strconv.FormatBool(dry))
	}
	return ask[Dealt](ctx, c, http.MethodPost, path("v1", "queues", queue, verb), q)
}
