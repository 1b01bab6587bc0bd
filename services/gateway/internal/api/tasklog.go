package api

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// Logs keeps what tasks have logged. Its error is [messages.ErrStoreUnavailable].
type Logs interface {
	// Log returns the last lines of a task, each a JSON object.
	Log(ctx context.Context, id string) ([]json.RawMessage, error)
}

// taskLog is what a task has logged.
type taskLog struct {
	TaskID string            `json:"task_id"`
	Lines  []json.RawMessage `json:"lines" nullable:"false" doc:"The last 100 lines, the oldest first: objects with time, level, message, attempt, fields, and trace_id where there is one."`
}

// getLog is GET /v1/tasks/{id}/log.
func (a *API) getLog(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if nameRule(c.name, 255) != "" {
		return nil, newProblem(slugTaskNotFound, "no task has such an id")
	}
	if err := a.shown(ctx, c.name); err != nil {
		return nil, a.missing(c.name, err)
	}
	lines, err := stored(ctx, a, func(ctx context.Context) ([]json.RawMessage, error) { return a.opts.Logs.Log(ctx, c.name) })
	if err != nil {
		return nil, err
	}
	if len(lines) == 0 {
		if _, err := a.getSoon(ctx, c.name); err != nil {
			return nil, a.missing(c.name, err)
		}
		lines = []json.RawMessage{}
	}
	return jsonReply(http.StatusOK, taskLog{TaskID: c.name, Lines: lines})
}

func (a *API) logRoutes(h huma.API, d *documenter) {
	id := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the task.", Schema: &huma.Schema{Type: huma.TypeString}}
	route(h, huma.Operation{
		OperationID: "get-task-log", Method: http.MethodGet, Path: "/v1/tasks/{id}/log", Tags: []string{tagTasks}, Summary: "Read what a task has logged",
		Description: "A line is there up to 5 s after it was logged, and all of them soon after the attempt has ended. They are kept as long as the result.",
		Parameters:  []*huma.Param{id}, Responses: d.responses(typed[taskLog](http.StatusOK, "The lines.")),
	}, nil, a.getLog)
}
