package api

import (
	"context"
	"net/http"
	"slices"
)

// Queues pauses the intake of workers. Errors are
// [messages.ErrStoreUnavailable].
type Queues interface {
	Pause(ctx context.Context, queue string) error
	Resume(ctx context.Context, queue string) error
	Paused(ctx context.Context) ([]string, error)
}

// queue is a work queue.
type queue struct {
	Name    string   `json:"name"`
	Paused  bool     `json:"paused" doc:"Whether workers take nothing from it."`
	Foreign bool     `json:"foreign" doc:"Whether Celery serves it, which cannot be paused from here."`
	Tasks   []string `json:"tasks" nullable:"false" doc:"Kinds of tasks that its workers know."`
	Alive   int      `json:"alive" doc:"Live workers."`
}

type queueList struct {
	Queues []queue `json:"queues" nullable:"false" doc:"The queues of the catalog, and those that are paused, by name."`
}

// listQueues is GET /v1/queues.
func (a *API) listQueues(ctx context.Context, c *call) (*reply, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	s, err := a.catalog.loaded()
	if err != nil {
		return nil, err
	}
	paused, err := stored(ctx, a, a.opts.Queues.Paused)
	if err != nil {
		return nil, err
	}
	known := map[string]*queue{}
	find := func(name string) *queue {
		if known[name] == nil {
			known[name] = &queue{Name: name, Tasks: []string{}}
		}
		return known[name]
	}
	for _, e := range s.entries {
		q := find(e.Queue)
		q.Foreign = q.Foreign || e.Foreign
		q.Alive = max(q.Alive, e.Alive)
		if !slices.Contains(q.Tasks, e.Name) {
			q.Tasks = append(q.Tasks, e.Name)
		}
	}
	for _, name := range paused {
		find(name).Paused = true
	}
	out := queueList{Queues: make([]queue, 0, len(known))}
	for _, name := range sortedKeys(known) {
		out.Queues = append(out.Queues, *known[name])
	}
	return jsonReply(http.StatusOK, out)
}

// pauseQueue is POST /v1/queues/{queue}/pause.
func (a *API) pauseQueue(ctx context.Context, c *call) (*reply, error) {
	return a.setPaused(ctx, c, true)
}

// resumeQueue is POST /v1/queues/{queue}/resume.
func (a *API) resumeQueue(ctx context.Context, c *call) (*reply, error) {
	return a.setPaused(ctx, c, false)
}

// pausing is the answer to a pause and its end.
type pausing struct {
	Name   string `json:"name"`
	Paused bool   `json:"paused"`
}

func (a *API) setPaused(ctx context.Context, c *call, on bool) (*reply, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if err := checkQueue(c.queue); err != nil {
		return nil, err
	}
	if a.foreign[c.queue] || a.catalog.foreignQueue(c.queue) {
		return nil, newProblem(slugForeign, "the workers of this queue are Celery's: use celery control cancel_consumer")
	}
	set := a.opts.Queues.Resume
	if on {
		set = a.opts.Queues.Pause
	}
	_, err := stored(ctx, a, func(ctx context.Context) (struct{}, error) { return struct{}{}, set(ctx, c.queue) })
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, pausing{Name: c.queue, Paused: on})
}
