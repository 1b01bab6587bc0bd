package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// steered is the record of a task that is to be cancelled or run again.
func (a *API) steered(ctx context.Context, c *call) (*messages.Result, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if nameRule(c.name, 255) != "" {
		return nil, newProblem(slugTaskNotFound, "no task has such an id")
	}
	// The record of a task that was just submitted may still be on its way.
	r, err := a.getSoon(ctx, c.name)
	if err != nil {
		return nil, a.missing(c.name, err)
	}
	if !a.servesOurselves(r.Queue) {
		p := newProblem(slugForeign, fmt.Sprintf("the workers of queue %q are Celery's, which do not ask whether they may run a task", r.Queue))
		p.TaskID = c.name
		return nil, p
	}
	return r, nil
}

// cancelTask is POST /v1/tasks/{id}/cancel. To cancel what is revoked already is
// fine.
func (a *API) cancelTask(ctx context.Context, c *call) (*reply, error) {
	if _, err := a.steered(ctx, c); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.opts.ReadTimeout)
	defer cancel()
	r, outcome, err := a.opts.Canceller.Cancel(ctx, c.name)
	if err != nil {
		return nil, a.missing(c.name, err)
	}
	switch {
	case outcome == CancelRequested:
		return jsonReply(http.StatusAccepted, newTask(r))
	case r.State == messages.Revoked:
		return jsonReply(http.StatusOK, newTask(r))
	}
	p := newProblem(slugEnded, fmt.Sprintf("it is in state %s, which is final", r.State))
	p.TaskID = c.name
	return nil, p
}

// servesOurselves reports whether workers of ours take the queue's tasks, as far
// as that is known.
func (a *API) servesOurselves(queue string) bool {
	return queue != "" && !a.foreign[queue] && !a.catalog.foreignQueue(queue)
}
