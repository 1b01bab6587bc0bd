package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

const (
	pageLength = 50
	// mostScanned is how many pages are read for one page of what the API does
	// not look for itself.
	mostScanned = 5
)

// taskQuery is what the list is asked for.
type taskQuery struct {
	Text, State, Name, Queue, Worker, Within, Cursor string
}

func newTaskQuery(q url.Values) taskQuery {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	return taskQuery{
		Text: get("q"), State: get("state"), Name: get("name"), Queue: get("queue"),
		Worker: get("worker"), Within: get("within"), Cursor: get("cursor"),
	}
}

// groups are the states by the word that people look for.
//
//nolint:gochecknoglobals // a table
var groups = []struct {
	Name, Label string
	States      []client.State
}{
	{"", "All", nil},
	{"waiting", "Waiting", []client.State{client.Pending}},
	{"running", "Running", []client.State{client.Received, client.Started, client.InWork}},
	{"retrying", "Retrying", []client.State{client.Retrying}},
	{"succeeded", "Succeeded", []client.State{client.Success}},
	{"failed", "Failed", []client.State{client.Failure}},
	{"cancelled", "Cancelled", []client.State{client.Revoked}},
}

func (q taskQuery) filter() client.Filter {
	f := client.Filter{Name: q.Name, Queue: q.Queue, Worker: q.Worker, Cursor: q.Cursor, Limit: pageLength}
	for _, g := range groups {
		if g.Name == q.State {
			f.States = g.States
		}
	}
	if within, err := time.ParseDuration(q.Within); err == nil && within > 0 {
		f.Since = now().Add(-within)
	}
	return f
}

// with is the address of the list with one thing changed.
func (q taskQuery) address() string {
	v := url.Values{}
	for name, value := range map[string]string{
		"q": q.Text, "state": q.State, "name": q.Name, "queue": q.Queue, "worker": q.Worker, "within": q.Within, "cursor": q.Cursor,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if len(v) == 0 {
		return "/console/tasks"
	}
	return "/console/tasks?" + v.Encode()
}

// InState is the address of the same list in another state.
func (q taskQuery) InState(state string) string {
	q.State, q.Cursor = state, ""
	return q.address()
}

// After is the address of the page after this one.
func (q taskQuery) After(cursor string) string {
	q.Cursor = cursor
	return q.address()
}

// Narrow reports whether anything restricts the list.
func (q taskQuery) Narrow() bool { return q != taskQuery{} }

type taskList struct {
	Query      taskQuery
	Groups     any
	Names      []string
	Queues     []string
	Tasks      []client.Task
	NextCursor string
	// Looked is how many tasks were looked at for this page, when text was
	// looked for.
	Looked int
}

// tasks lists tasks, and what is typed narrows the list.
func (c *Console) tasks(ctx context.Context, r *http.Request) (*view, error) {
	list := taskList{Query: newTaskQuery(r.URL.Query()), Groups: groups}
	v := &view{name: "tasks", Title: "Tasks", Section: "tasks", Self: list.Query.address()}
	if r.Header.Get("HX-Request") == "true" {
		v.location = list.Query.address()
	} else {
		list.Names, list.Queues = c.known(ctx)
	}
	err := c.find(ctx, &list)
	v.Data = list
	return v, err
}

// known are the names that a filter can be set to. A filter without them is one
// as well.
func (c *Console) known(ctx context.Context) (names, queues []string) {
	catalog, err := c.client.Catalog(ctx)
	if err != nil {
		return nil, nil
	}
	for _, e := range catalog {
		names, queues = append(names, e.Name), append(queues, e.Queue)
	}
	slices.Sort(names)
	slices.Sort(queues)
	return slices.Compact(names), slices.Compact(queues)
}

// find fills in a page.
func (c *Console) find(ctx context.Context, list *taskList) error {
	f := list.Query.filter()
	text := strings.ToLower(list.Query.Text)
	if text == "" {
		page, err := c.client.List(ctx, f)
		if err == nil {
			list.Tasks, list.NextCursor = page.Tasks, page.NextCursor
		}
		return err
	}
	if f.Cursor == "" {
		switch t, err := c.client.Get(ctx, list.Query.Text); {
		case err == nil:
			list.Tasks, list.Looked = []client.Task{*t}, 1
			return nil
		case !refused(err):
			return err
		}
	}
	f.Limit = 200
	for range mostScanned {
		page, err := c.client.List(ctx, f)
		if err != nil {
			return err
		}
		list.Looked += len(page.Tasks)
		for _, t := range page.Tasks {
			if mentions(t, text) {
				list.Tasks = append(list.Tasks, t)
			}
		}
		if f.Cursor, list.NextCursor = page.NextCursor, page.NextCursor; f.Cursor == "" || len(list.Tasks) >= pageLength {
			return nil
		}
	}
	return nil
}

func refused(err error) bool {
	p, ok := errors.AsType[*client.Problem](err)
	return ok && p.Status < http.StatusInternalServerError
}

// mentions reports whether a task says a text where a row shows it.
func mentions(t client.Task, text string) bool {
	parts := []string{t.TaskID, t.Name}
	if t.Error != nil {
		parts = append(parts, t.Error.Type+": "+t.Error.Message)
	}
	return slices.ContainsFunc(parts, func(s string) bool { return strings.Contains(strings.ToLower(s), text) })
}
