package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// maxPurge is how many tasks one purge takes out of a queue at most.
const maxPurge = 100_000

// Purger empties queues. Errors are [messages.ErrQueueMissing] and
// [messages.ErrBrokerUnavailable].
type Purger interface {
	// Ready counts the tasks that wait in a queue.
	Ready(ctx context.Context, queue string) (int, error)
	// Purge revokes up to so many of the tasks that wait in a queue, until ctx
	// ends, and returns how many it has revoked.
	Purge(ctx context.Context, queue string, most int) (int, error)
}

type purgeQuery struct {
	all    bool
	limit  int
	dryRun bool
}

func purgeParams() []param[purgeQuery] {
	return []param[purgeQuery]{
		{
			name: "all", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Say true: all tasks that wait are revoked. Needed unless it is a dry run.",
			set: func(q *purgeQuery, s string) string { return setBool(&q.all, s) },
		},
		{
			name: "limit", schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxPurge))}, doc: "At most this many, the first ones; without it 100000.",
			set: func(q *purgeQuery, s string) string { return setInt(&q.limit, s, 1, maxPurge) },
		},
		{
			name: "dry_run", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Only count.",
			set: func(q *purgeQuery, s string) string { return setBool(&q.dryRun, s) },
		},
	}
}

// purged is what a purge has come to.
type purged struct {
	Name   string `json:"name" doc:"The queue."`
	Ready  int    `json:"ready" doc:"Tasks that waited in it at the beginning."`
	Purged int    `json:"purged" doc:"How many were taken out, each with the state REVOKED."`
	More   bool   `json:"more" doc:"Whether there may be more of them: ask again."`
	DryRun bool   `json:"dry_run" doc:"Whether nothing was done."`
}

// purgeQueue is POST /v1/queues/{queue}/purge. It ends when the client hangs up:
// what is done by then is done.
func (a *API) purgeQueue(ctx context.Context, c *call) (*reply, error) {
	q := purgeQuery{limit: maxPurge}
	errs := parseQuery(purgeParams(), c.request.URL.RawQuery, &q)
	if len(errs) == 0 && !q.all && !q.dryRun {
		errs = append(errs, atParameter("all", "give all=true to revoke all tasks that wait, or dry_run=true to count them"))
	}
	if len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	if err := checkQueue(c.queue); err != nil {
		return nil, err
	}
	if a.foreign[c.queue] || a.catalog.foreignQueue(c.queue) {
		return nil, newProblem(slugForeign, "Celery serves this queue: use celery purge -Q")
	}
	out := purged{Name: c.queue, DryRun: q.dryRun}
	var err error
	counting, cancel := context.WithTimeout(ctx, a.opts.ReadTimeout)
	defer cancel()
	if out.Ready, err = a.opts.Purger.Ready(counting, c.queue); err != nil {
		if errors.Is(err, messages.ErrQueueMissing) {
			return nil, newProblem(slugNotFound, "RabbitMQ has no such queue")
		}
		return nil, err
	}
	if q.dryRun || out.Ready == 0 {
		return jsonReply(http.StatusOK, out)
	}
	working, stop := context.WithTimeout(ctx, a.opts.PassTimeout)
	defer stop()
	if out.Purged, err = a.opts.Purger.Purge(working, c.queue, min(q.limit, out.Ready)); err != nil && out.Purged == 0 {
		return nil, err // what was done is worth an answer
	}
	out.More = out.Purged < out.Ready && q.limit > out.Purged
	return jsonReply(http.StatusOK, out)
}
