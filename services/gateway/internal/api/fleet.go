package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// catalogEntry is a task that workers have announced.
type catalogEntry struct {
	Name          string          `json:"name" doc:"Kind of the task."`
	Queue         string          `json:"queue" doc:"Queue that its workers consume."`
	Description   string          `json:"description" doc:"What it does."`
	Params        []string        `json:"params" nullable:"false" doc:"Fields of the input, in the order of positional arguments."`
	Input         json.RawMessage `json:"input_schema" doc:"JSON Schema of the input; null means that anything goes."`
	Output        json.RawMessage `json:"output_schema" doc:"JSON Schema of the result; null means that anything may come."`
	MaxRetries    int             `json:"max_retries"`
	TimeLimit     float64         `json:"time_limit" doc:"Hard limit of an attempt in seconds, 0 for none."`
	SoftTimeLimit float64         `json:"soft_time_limit" doc:"Soft limit of an attempt in seconds, 0 for none."`
	Foreign       bool            `json:"foreign" doc:"Whether Celery serves the queue."`
	AnnouncedAt   time.Time       `json:"announced_at" doc:"When a worker last started with it."`
	Indexed       []string        `json:"indexed" nullable:"false" doc:"Fields of the input by whose value tasks can be listed."`
	Alive         int             `json:"alive" doc:"Live workers that run it."`
}

type catalogList struct {
	Tasks []catalogEntry `json:"tasks" nullable:"false" doc:"By name; while workers are being replaced a name may appear in two versions, the newest first."`
}

// getCatalog is GET /v1/catalog. It answers from the copy.
func (a *API) getCatalog(ctx context.Context, c *call) (*reply, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	s, err := a.catalog.loaded()
	if err != nil {
		return nil, err
	}
	out := catalogList{Tasks: make([]catalogEntry, 0, len(s.entries))}
	g := access.From(ctx)
	for _, e := range s.entries {
		if !g.Task(e.Name) || !g.Queue(e.Queue) {
			continue
		}
		out.Tasks = append(out.Tasks, newCatalogEntry(e))
	}
	return jsonReply(http.StatusOK, out)
}

func newCatalogEntry(e messages.CatalogEntry) catalogEntry {
	if e.Params == nil {
		e.Params = []string{}
	}
	if e.Indexed == nil {
		e.Indexed = []string{}
	}
	return catalogEntry{
		Name: e.Name, Queue: e.Queue, Description: e.Description, Params: e.Params, Input: e.Input, Output: e.Output,
		MaxRetries: e.MaxRetries, TimeLimit: e.TimeLimit, SoftTimeLimit: e.SoftTimeLimit, Foreign: e.Foreign,
		AnnouncedAt: e.AnnouncedAt, Indexed: e.Indexed, Alive: e.Alive,
	}
}
