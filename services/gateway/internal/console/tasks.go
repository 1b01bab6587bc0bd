package console

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

const pageLength = 50

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

// An id begins so, and field=value is asked of the input.
var (
	looksLikeID    = regexp.MustCompile("^0[0-9a-f]{3,7}(-[0-9a-f-]*)?$|^[0-9a-f]{8}-[0-9a-f-]*$")
	looksLikeField = regexp.MustCompile(`^([A-Za-z_][\w.]*)=(\S+)$`)
)

// filter is what the API is asked. A text is the beginning of an id, a field of
// the input and its value, or a part of an error.
func (q taskQuery) filter() client.Filter {
	f := client.Filter{Name: q.Name, Queue: q.Queue, Worker: q.Worker, Cursor: q.Cursor, Limit: pageLength}
	switch field := looksLikeField.FindStringSubmatch(q.Text); {
	case field != nil:
		f.Input = map[string]string{field[1]: field[2]}
	case looksLikeID.MatchString(q.Text):
		f.ID = q.Text
	default:
		f.Error = q.Text
	}
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
	// Trimmed is how many tasks are too old for the list.
	Trimmed int
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
	page, err := c.client.List(ctx, list.Query.filter())
	if err != nil {
		return err
	}
	list.Tasks, list.NextCursor, list.Trimmed = page.Tasks, page.NextCursor, page.Trimmed
	if text := list.Query.Text; text != "" && len(list.Tasks) == 0 && list.Query.Cursor == "" {
		// Ids that others have made look like anything.
		if t, err := c.client.Get(ctx, text); err == nil {
			list.Tasks = []client.Task{*t}
		}
	}
	return nil
}
