package console

import (
	"context"
	"net/http"
	"net/url"

	"github.com/lovage-mq/lovage/pkg/client"
)

// queues shows the work queues, with what can be done about each.
func (c *Console) queues(ctx context.Context, _ *http.Request) (*view, error) {
	v := &view{name: "queues", Title: "Queues", Section: "queues", Self: "/console/queues"}
	queues, err := c.client.Queues(ctx)
	v.Data = queues
	return v, err
}

func (c *Console) steerQueue(ctx context.Context, r *http.Request) (*view, error) {
	verb := r.PathValue("verb")
	steer := map[string]func(context.Context, string) error{
		"pause": c.client.Pause, "resume": c.client.Resume, "drain": c.client.Drain,
	}[verb]
	if steer == nil {
		return c.missing(ctx, r)
	}
	if err := steer(ctx, r.PathValue("queue")); err != nil {
		v, _ := c.queues(ctx, r) // what was refused is what is to be said
		return v, err
	}
	return back("/console/queues", verb), nil
}

// workers shows who is alive.
func (c *Console) workers(ctx context.Context, _ *http.Request) (*view, error) {
	v := &view{name: "workers", Title: "Workers", Section: "workers", Self: "/console/workers"}
	workers, err := c.client.Workers(ctx)
	v.Data = workers
	return v, err
}

// catalog shows what can be run.
func (c *Console) catalog(ctx context.Context, _ *http.Request) (*view, error) {
	v := &view{name: "catalog", Title: "Catalog", Section: "catalog", Self: "/console/catalog"}
	entries, err := c.client.Catalog(ctx)
	v.Data = entries
	return v, err
}

// dead leads to the dead letters of a queue; where there is only one, at once.
func (c *Console) dead(ctx context.Context, _ *http.Request) (*view, error) {
	v := &view{name: "dead", Title: "Dead letters", Section: "dead", Self: "/console/dead"}
	queues, err := c.client.Queues(ctx)
	var ours []client.Queue
	for _, q := range queues {
		if !q.Foreign {
			ours = append(ours, q)
		}
	}
	if len(ours) == 1 {
		v.redirect = deadPath(ours[0].Name)
	}
	v.Data = deadData{Queues: ours}
	return v, err
}

func deadPath(queue string) string { return "/console/dead/" + url.PathEscape(queue) }
