package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

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
	if verb == "purge" {
		if _, err := c.client.Purge(ctx, r.PathValue("queue"), 0); err != nil {
			return c.refuse(ctx, r, c.purge, err)
		}
		return back("/console/queues", verb), nil
	}
	steer := map[string]func(context.Context, string) error{
		"pause": c.client.Pause, "resume": c.client.Resume, "drain": c.client.Drain,
	}[verb]
	if steer == nil {
		return c.missing(ctx, r)
	}
	if err := steer(ctx, r.PathValue("queue")); err != nil {
		return c.refuse(ctx, r, c.queues, err)
	}
	return back("/console/queues", verb), nil
}

// purge asks before all that waits in a queue is revoked.
func (c *Console) purge(ctx context.Context, r *http.Request) (*view, error) {
	queue := r.PathValue("queue")
	v := &view{name: "purge", Title: "Purge " + queue, Section: "queues"}
	waiting, err := c.client.CountWaiting(ctx, queue)
	v.Data = map[string]any{"Queue": queue, "Waiting": waiting}
	return v, err
}

// oneWorker is what the page of a worker shows.
type oneWorker struct {
	Worker *client.Worker
	Dump   *client.Dump
}

// worker shows one worker, what it runs, and how it can be steered.
func (c *Console) worker(ctx context.Context, r *http.Request) (*view, error) {
	name := r.PathValue("worker")
	v := &view{name: "worker", Title: "Worker " + name, Section: "workers", Self: workerPath(name), Data: oneWorker{}}
	w, err := c.client.Worker(ctx, name)
	if err == nil {
		v.Data = oneWorker{Worker: w}
	}
	return v, err
}

func workerPath(name string) string { return "/console/workers/" + url.PathEscape(name) }

func (c *Console) steerWorker(ctx context.Context, r *http.Request) (*view, error) {
	name, verb := r.PathValue("worker"), r.PathValue("verb")
	var err error
	switch verb {
	case "slots":
		var slots int
		if slots, err = strconv.Atoi(r.PostFormValue("slots")); err != nil {
			err = badForm("The slots must be a whole number.")
			break
		}
		_, err = c.client.SetSlots(ctx, name, slots)
	case "stop":
		_, err = c.client.StopWorker(ctx, name)
	case "dump":
		v, missing := c.worker(ctx, r)
		if missing != nil {
			return v, missing
		}
		one := v.Data.(oneWorker)
		if one.Dump, err = c.client.Dump(ctx, name, r.PostFormValue("task")); err == nil {
			v.Data = one
			return v, nil
		}
	default:
		return c.missing(ctx, r)
	}
	if err != nil {
		return c.refuse(ctx, r, c.worker, err)
	}
	return back(workerPath(name), verb), nil
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
