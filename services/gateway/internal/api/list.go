package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
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
	// all, rate and dryRun are for what is done to many.
	all    bool
	rate   int
	dryRun bool
}

// taskList is a page of tasks.
type taskList struct {
	Tasks      []*task `json:"tasks" nullable:"false" doc:"The tasks, newest first. There may be fewer than the limit and still more to come."`
	NextCursor *string `json:"next_cursor" doc:"Pass it as cursor to get the next page; null at the end."`
	Trimmed    int     `json:"trimmed" doc:"How many tasks, the oldest, have been dropped from the list because it was at its limit."`
}

// listParams is the table of what the list can be asked for.
func listParams() []param[listQuery] {
	type query = listQuery
	return append(filterParams(),
		param[query]{
			name: "limit", doc: "At most this many tasks.",
			schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxLimit)), Default: defaultLimit},
			set:    func(q *query, s string) string { return setInt(&q.limit, s, 1, maxLimit) },
		},
		param[query]{
			name: "cursor", schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(1024)}, doc: "next_cursor of the page before.",
			set: func(q *query, s string) string { q.cursor = s; return nameRule(s, 1024) },
		})
}

// filterParams is the table of what says which tasks are meant.
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
		{
			name: "error", schema: plain, doc: "Only tasks whose last attempt failed with an error that has this in its type or message, whatever the case.",
			set: func(q *query, s string) string { q.Error = s; return nameRule(s, 255) },
		},
		{name: "id", schema: plain, doc: "Only tasks whose id begins so.", set: func(q *query, s string) string { q.ID = s; return nameRule(s, 255) }},
		{name: "since", schema: instant, doc: "Only tasks created at or after this time.", set: func(q *query, s string) string { return setInstant(&q.Since, s) }},
		{name: "until", schema: instant, doc: "Only tasks created before this time.", set: func(q *query, s string) string { return setInstant(&q.Until, s) }},
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
	if errs := a.parseFilter(a.filters, c.request.URL.RawQuery, &q); len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	page, err := stored(ctx, a, func(ctx context.Context) (Page, error) {
		return a.opts.Results.List(ctx, q.Filter, q.cursor, q.limit)
	})
	if err != nil {
		return nil, err
	}
	out := taskList{Tasks: make([]*task, 0, len(page.Results)), NextCursor: text(page.Next), Trimmed: page.Trimmed}
	for _, r := range onlyCovered(ctx, page.Results) {
		out.Tasks = append(out.Tasks, listed(r))
	}
	return jsonReply(http.StatusOK, out)
}

// inputPrefix is followed by the name of an indexed field.
const inputPrefix = "input."

// parseFilter reads a query that says which tasks are meant.
func (a *API) parseFilter(table []param[listQuery], query string, q *listQuery) []fieldError {
	var errs []fieldError
	if values, err := url.ParseQuery(query); err == nil {
		for _, name := range sortedKeys(values) {
			field, ok := strings.CutPrefix(name, inputPrefix)
			if !ok {
				continue
			}
			if rule := a.setInput(q, field, values[name]); rule != "" {
				errs = append(errs, atParameter(name, rule))
			}
			delete(values, name)
		}
		query = values.Encode()
	}
	errs = append(errs, parseQuery(table, query, q)...)
	if q.Name != "" || len(errs) == 0 {
		errs = append(errs, a.checkIndexed(q)...)
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && !q.Until.After(q.Since) {
		errs = append(errs, atParameter("until", "must be after since"))
	}
	return errs
}

func (a *API) setInput(q *listQuery, field string, values []string) string {
	switch {
	case len(values) > 1:
		return fmt.Sprintf("given %d times, may be given once", len(values))
	case len(q.Input) == messages.MaxIndexed:
		return fmt.Sprintf("at most %d fields of the input can be asked for", messages.MaxIndexed)
	}
	if q.Input == nil {
		q.Input = map[string]string{}
	}
	q.Input[field] = values[0]
	return nameRule(values[0], messages.MaxTerm)
}

// checkIndexed refuses fields that no task has announced as indexed, as far as
// the catalog is known: nothing would ever be found by them.
func (a *API) checkIndexed(q *listQuery) []fieldError {
	s, err := a.catalog.loaded()
	if err != nil || len(q.Input) == 0 {
		return nil // whoever asks need not wait for the catalog
	}
	known := map[string]bool{}
	for _, e := range s.entries {
		for _, field := range e.Indexed {
			known[field] = known[field] || q.Name == "" || q.Name == e.Name
		}
	}
	var errs []fieldError
	for _, field := range sortedKeys(q.Input) {
		if !known[field] {
			errs = append(errs, atParameter(inputPrefix+field, "is no field that the task's worker has indexed; see indexed in /v1/catalog"))
		}
	}
	return errs
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
