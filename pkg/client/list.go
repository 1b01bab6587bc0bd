package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Filter selects tasks. What is zero selects nothing.
type Filter struct {
	States              []State
	Name, Queue, Worker string
	// Error is a part of the error's type or message, whatever the case.
	Error string
	// Since and Until are times of creation; Until is exclusive.
	Since, Until time.Time
	// ID is how the id begins.
	ID string
	// Input are values of fields of the input that are indexed.
	Input map[string]string
	// Limit is the length of the page, 1 to 200; 50 when it is 0.
	Limit int
	// Cursor is the NextCursor of the page before.
	Cursor string
}

func (f *Filter) query() url.Values {
	q := f.selection()
	setInt(q, "limit", f.Limit)
	setText(q, "cursor", f.Cursor)
	return q
}

// selection says which tasks are meant.
func (f *Filter) selection() url.Values {
	q := url.Values{}
	for _, s := range f.States {
		q.Add("state", string(s))
	}
	setText(q, "name", f.Name)
	setText(q, "queue", f.Queue)
	setText(q, "worker", f.Worker)
	setText(q, "error", f.Error)
	setText(q, "id", f.ID)
	setTime(q, "since", f.Since)
	setTime(q, "until", f.Until)
	for field, value := range f.Input {
		q.Set("input."+field, value)
	}
	return q
}

// Page is a page of tasks, newest first. One with a filter may be short, even
// empty, and still have a NextCursor, which is empty at the end.
type Page struct {
	Tasks      []Task `json:"tasks"`
	NextCursor string `json:"next_cursor"`
	// Trimmed is how many tasks, the oldest, have been dropped from the list
	// because it was at its limit.
	Trimmed int `json:"trimmed"`
}

// List lists tasks by their time of creation.
func (c *Client) List(ctx context.Context, f Filter) (*Page, error) {
	return ask[Page](ctx, c, http.MethodGet, path("v1", "tasks"), f.query())
}
