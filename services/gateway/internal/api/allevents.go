package api

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// longestSend is about how much of a stream is put together before it is sent.
const longestSend = 32 << 10

// eventFilter says which changes to tell: of the tasks that the credential is
// for, those that were asked for. A zero field beside it does not restrict.
type eventFilter struct {
	grant       *access.Grant
	states      []messages.State
	name, queue string
}

func (f *eventFilter) match(e *Event) bool {
	return (len(f.states) == 0 || slices.Contains(f.states, e.State)) &&
		(f.name == "" || f.name == e.Name) && (f.queue == "" || f.queue == e.Queue) &&
		f.grant.Task(e.Name) && f.grant.Queue(e.Queue)
}

// taskChange is the data of a change event.
type taskChange struct {
	TaskID string         `json:"task_id" doc:"Id of the task."`
	State  messages.State `json:"state" doc:"The state that it is in now."`
	Name   *string        `json:"name" doc:"Kind of the task, null when the record does not say."`
	Queue  *string        `json:"queue" doc:"Work queue."`
	Time   time.Time      `json:"time" doc:"When it was told, by the clock of Redis."`
}

func eventText(e Event) ([]byte, error) {
	data, err := encodeJSON(taskChange{TaskID: e.TaskID, State: e.State, Name: text(e.Name), Queue: text(e.Queue), Time: e.At})
	return appendEvent(nil, "change", e.Position, data), err
}

// eventParams is the table of what the changes can be asked for.
func eventParams() []param[eventFilter] {
	plain := &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)}
	var states []any
	for _, s := range messages.States() {
		states = append(states, string(s))
	}
	return []param[eventFilter]{
		{
			name: "state", list: true, doc: "Only changes to one of these states; repeat it, or separate by commas.",
			schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Enum: states}},
			set: func(f *eventFilter, s string) string {
				var q listQuery
				rule := setStates(&q, s)
				f.states = q.States
				return rule
			},
		},
		{name: "name", schema: plain, doc: "Only tasks of this kind.", set: func(f *eventFilter, s string) string { f.name = s; return nameRule(s, 255) }},
		{name: "queue", schema: plain, doc: "Only tasks of this queue.", set: func(f *eventFilter, s string) string { f.queue = s; return nameRule(s, 255) }},
	}
}

// allEvents is GET /v1/events: the changes of all tasks that a filter lets
// through, from now on or from the last one that the client has seen.
func (a *API) allEvents(ctx context.Context, c *call) error {
	f := eventFilter{grant: access.From(ctx)}
	if errs := parseQuery(eventParams(), c.request.URL.RawQuery, &f); len(errs) > 0 {
		return invalid(slugParameters, errs)
	}
	wake, leave := a.hub.join()
	defer leave()
	opened := time.NewTimer(a.opts.ReadTimeout)
	defer opened.Stop()
	select {
	case <-a.hub.opened():
	case <-opened.C:
		return messages.ErrStoreUnavailable
	case <-a.draining:
		return newProblem(slugStopping, "the server is about to stop; come back to another one")
	case <-ctx.Done():
		return ctx.Err()
	}
	l := &eventListener{hub: a.hub, looks: a.looks, filter: f}
	l.number, l.position = a.hub.end()
	if seen := lastEventID(c.request.Header); seen != "" {
		l.number, l.position = behind, seen
	}
	to, err := a.openEvents(c)
	if err != nil || exchangeOf(ctx).head {
		return nil // a client that is gone hears nothing more
	}
	l.to = to
	_ = l.run(ctx, wake, a.draining) // the same
	return nil
}

// behind is a number that the events at hand do not have.
const behind = -1

// eventListener is one client of the hub.
type eventListener struct {
	hub    *hub
	looks  slots
	filter eventFilter
	to     *events
	// position is up to where the client knows all, and number that of the next
	// event at hand, unless it is behind.
	position string
	number   int
}

// run sends events until the client is gone or the server stops.
func (l *eventListener) run(ctx context.Context, wake <-chan struct{}, draining <-chan struct{}) error {
	if err := l.beat(); err != nil {
		return err
	}
	beat := time.NewTicker(l.to.times.heartbeat)
	defer beat.Stop()
	for {
		more, err := l.step(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-wake:
		case <-beat.C:
			if err := l.beat(); err != nil {
				return err
			}
		case <-draining:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beat shows that the connection is there. Also when nothing was for this
// client it knows then from where to go on; it is no event to a browser.
func (l *eventListener) beat() error { return l.to.send([]byte("id: " + l.position + "\n\n")) }

// step sends what is at hand, and reports whether there may be more.
func (l *eventListener) step(ctx context.Context) (more bool, err error) {
	some, next, ok := l.hub.since(l.number)
	if !ok {
		if number, found := l.hub.find(l.position); found {
			l.number = number
			return true, nil
		}
		apart(func() { more, err = l.catchUp(ctx) })
		return more, err
	}
	if len(some) == 0 {
		return false, nil
	}
	l.number, l.position = next, some[len(some)-1].Position
	return true, l.send(func(yield func(*Event, []byte) bool) {
		for i := range some {
			if !yield(&some[i].Event, some[i].text) {
				return
			}
		}
	})
}

// catchUp sends what the hub has left behind already. It reads as much at a time
// as the hub does; when the store is away, the next heartbeat tries again.
func (l *eventListener) catchUp(ctx context.Context) (more bool, err error) {
	if !l.looks.enter(ctx) {
		return false, ctx.Err()
	}
	defer l.looks.leave()
	var some []Event
	was := l.position
	err = l.hub.ask(ctx, func(ctx context.Context) (err error) {
		some, l.position, err = l.hub.events.Read(ctx, was, hubRead)
		return err
	})
	switch {
	case errors.Is(err, ErrEventsGone):
		l.number, l.position = l.hub.end()
		return true, l.to.send(appendEvent(nil, "gap", l.position, []byte("{}")))
	case err != nil:
		l.position = was
		return false, ctx.Err()
	}
	return l.position != was, l.send(func(yield func(*Event, []byte) bool) {
		for i := range some {
			if text, err := eventText(some[i]); err == nil && !yield(&some[i], text) {
				return
			}
		}
	})
}

// send sends those of the events that the filter lets through.
func (l *eventListener) send(all func(yield func(*Event, []byte) bool)) (err error) {
	var text []byte
	for e, one := range all {
		if !l.filter.match(e) {
			continue
		}
		if text = append(text, one...); len(text) < longestSend {
			continue
		}
		if err := l.to.send(text); err != nil {
			return err
		}
		text = text[:0]
	}
	if len(text) == 0 {
		return nil
	}
	return l.to.send(text)
}

// eventsRoute documents GET /v1/events.
func eventsRoute(a *API, h huma.API, d *documenter) {
	d.schema(reflect.TypeFor[taskChange]())
	routeStream(h, huma.Operation{
		OperationID: "watch-tasks", Method: http.MethodGet, Path: "/v1/events", Tags: []string{tagTasks}, Summary: "Watch many tasks",
		Description: "Server-Sent Events: a change event for each change of a task that the query means, from now on. A gap event says that some are missing: list the tasks again.",
		Parameters:  append([]*huma.Param{lastEventParam("All that has come since is told first, or gap where it is not there any more.")}, document(eventParams())...),
		Responses:   withEvents(d.responses(), "Events. The data of a change event is a TaskChange."),
	}, nil, a.stream(a.allEvents))
}
