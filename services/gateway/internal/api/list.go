package api

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	// longestListed is the longest result that is shown in a list.
	longestListed = 16 << 10
)

// listQuery is what GET /v1/tasks is asked for.
type listQuery struct {
	Filter
	limit  int
	cursor string
}

// taskList is a page of tasks.
type taskList struct {
	Tasks      []*task `json:"tasks" nullable:"false" doc:"The tasks, newest first. There may be fewer than the limit and still more to come."`
	NextCursor *string `json:"next_cursor" doc:"Pass it as cursor to get the next page; null at the end."`
}

// filterParams is the table of what the list can be asked for.
func filterParams() []param[listQuery] {
	type query = listQuery
	plain := &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)}
	instant := &huma.Schema{Type: huma.TypeString, Format: "date-time"}
	var states []any
	for _, s := range messages.States() {
		states = append(states, string(s))
	}
	return []param[query]{
		{
			name: "state", list: true, doc: "Only tasks in one of these states; repeat it, or separate by commas.",
			schema: &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Enum: states}},
			set:    setStates,
		},
		{name: "name", schema: plain, doc: "Only tasks of this kind.", set: func(q *query, s string) string { q.Name = s; return nameRule(s, 255) }},
		{name: "queue", schema: plain, doc: "Only tasks of this queue.", set: func(q *query, s string) string { q.Queue = s; return nameRule(s, 255) }},
		{name: "worker", schema: plain, doc: "Only tasks of this worker.", set: func(q *query, s string) string { q.Worker = s; return nameRule(s, 255) }},
		{name: "since", schema: instant, doc: "Only tasks created at or after this time.", set: func(q *query, s string) string { return setInstant(&q.Since, s) }},
		{name: "until", schema: instant, doc: "Only tasks created before this time.", set: func(q *query, s string) string { return setInstant(&q.Until, s) }},
		{
			name: "limit", doc: "At most this many tasks.",
			schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxLimit)), Default: defaultLimit},
			set:    func(q *query, s string) string { return setInt(&q.limit, s, 1, maxLimit) },
		},
		{name: "cursor", schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(1024)}, doc: "next_cursor of the page before.", set: func(q *query, s string) string { q.cursor = s; return nameRule(s, 1024) }},
	}
}

func setStates(q *listQuery, s string) string {
	for one := range strings.SplitSeq(s, ",") {
		state := messages.State(strings.ToUpper(strings.TrimSpace(one)))
		if !slices.Contains(messages.States(), state) {
			var known []string
			for _, k := range messages.States() {
				known = append(known, string(k))
			}
			return "must be of " + strings.Join(known, ", ")
		}
		q.States = append(q.States, state)
	}
	return ""
}

// listTasks is GET /v1/tasks.
func (a *API) listTasks(ctx context.Context, c *call) (*reply, error) {
	q := listQuery{limit: defaultLimit}
	errs := parseQuery(a.filters, c.request.URL.RawQuery, &q)
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Until.After(q.Since) {
		errs = append(errs, atParameter("until", "must be after since"))
	}
	if len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	page, err := stored(ctx, a, func(ctx context.Context) (Page, error) {
		return a.opts.Results.List(ctx, q.Filter, q.cursor, q.limit)
	})
	if err != nil {
		return nil, err
	}
	out := taskList{Tasks: make([]*task, 0, len(page.Results)), NextCursor: text(page.Next)}
	for _, r := range onlyCovered(ctx, page.Results) {
		out.Tasks = append(out.Tasks, listed(r))
	}
	return jsonReply(http.StatusOK, out)
}

// listed leaves a long result out: 200 of them would be too much for one answer.
// One that is stored compressed is long.
func listed(r *messages.Result) *task {
	t := newTask(r)
	if len(t.Result) > longestListed || len(r.Packed) > 0 {
		t.Result, t.ResultOmitted = nil, true
	}
	return t
}
