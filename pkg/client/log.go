package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// LogLine is a line that a task has logged.
type LogLine struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	// Attempt is that which has logged it, 1 for the first; 0 when the line is about
	// others that were left out.
	Attempt int    `json:"attempt,omitempty"`
	TraceID string `json:"trace_id,omitempty"`
	// Fields are as the handler has given them, an object; nil when Truncated.
	Fields json.RawMessage `json:"fields,omitempty"`
	Stack  string          `json:"stack,omitempty"`
	// Truncated says that the line was too long: it has lost its fields.
	Truncated bool `json:"truncated,omitempty"`
}

// Log returns the last 100 lines that a task has logged, the oldest first. A line is
// there up to 5 s after it was logged, and all of them soon after the attempt has
// ended.
func (c *Client) Log(ctx context.Context, id string) ([]LogLine, error) {
	log, err := ask[struct {
		Lines []LogLine `json:"lines"`
	}](ctx, c, http.MethodGet, path("v1", "tasks", id, "log"), nil)
	if err != nil {
		return nil, err
	}
	return log.Lines, nil
}
