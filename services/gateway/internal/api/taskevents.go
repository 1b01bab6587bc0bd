package api

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// looksTogether bounds how many streams ask the store at a time: a watcher that
// has connected again tells all of them at once.
const looksTogether = 16

// view is a task at one moment, as an event shows it.
type view struct {
	// id is the same as long as the task is.
	id    string
	data  []byte
	final bool
}

func newView(r *messages.Result) (view, error) {
	data, err := encodeJSON(listed(r))
	if err != nil {
		return view{}, err
	}
	tag := etag(data)
	return view{id: tag[1 : len(tag)-1], data: data, final: finished(r)}, nil
}

// taskEvents is GET /v1/tasks/{id}/events: the task as it stands, again after
// each change, and the end when it is final.
func (a *API) taskEvents(ctx context.Context, c *call) error {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return err
	}
	if nameRule(c.name, 255) != "" {
		return newProblem(slugTaskNotFound, "no task has such an id")
	}
	// Before the first look, so that no change falls in between.
	changed, stop := a.opts.Watcher.Watch(c.name)
	defer stop()
	now, err := a.view(ctx, c.name, a.getSoon)
	if err != nil {
		return a.missing(c.name, err)
	}
	seen := lastEventID(c.request.Header)
	if now.final && now.id == seen {
		// There is nothing to come: a browser does not come back after this.
		c.writer.WriteHeader(http.StatusNoContent)
		return nil
	}
	to, err := a.openEvents(c)
	if err != nil || exchangeOf(ctx).head {
		return nil // a client that is gone hears nothing more
	}
	a.followEvents(ctx, to, c.name, changed, now, seen)
	return nil
}

// followEvents sends what there is to tell until the task is final or gone, the
// client is, or the server stops.
func (a *API) followEvents(ctx context.Context, to *events, id string, changed <-chan struct{}, now view, seen string) {
	pause := to.times.heartbeat - rand.N(to.times.heartbeat/4)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	looked := time.Now()
	for silent := false; ; {
		var err error
		switch {
		case now.id != seen:
			seen = now.id
			err = to.send(appendEvent(nil, "task", now.id, now.data))
		case silent:
			err = to.beat()
		}
		if err != nil || now.final {
			return
		}
		now.data = nil
		timer.Reset(pause)
		select {
		case _, open := <-changed:
			if !open {
				changed = nil
			}
			silent = false
			if !a.rest(ctx, time.Until(looked.Add(to.times.gap))) {
				return
			}
		case <-timer.C:
			silent = true
		case <-a.draining:
			return
		case <-ctx.Done():
			return
		}
		pause, looked = to.times.heartbeat, time.Now()
		next, err := a.view(ctx, id, a.get)
		switch {
		case err == nil:
			now = next
		case errors.Is(err, messages.ErrNotFound):
			return // the next connection is told why
		default:
			pause = to.times.again
		}
	}
}

// rest waits, and reports false when the stream is to end first.
func (a *API) rest(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-a.draining:
	case <-ctx.Done():
	}
	return false
}

// view looks at a task.
func (a *API) view(ctx context.Context, id string, get func(context.Context, string) (*messages.Result, error)) (v view, err error) {
	if !a.looks.enter(ctx) {
		return view{}, ctx.Err()
	}
	defer a.looks.leave()
	apart(func() {
		var r *messages.Result
		if r, err = get(ctx, id); err == nil {
			v, err = newView(r)
		}
	})
	return v, err
}
