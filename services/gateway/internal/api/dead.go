package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// DeadLetters passes over the dead letters of a queue.
type DeadLetters interface {
	// Pass shows the dead letters in their order until look says otherwise.
	// What it does not remove keeps its place. Errors are look's own,
	// [ErrPassing] and [messages.ErrBrokerUnavailable].
	Pass(ctx context.Context, queue string, look func(context.Context, *messages.Message) (Verdict, error)) error
}

// Verdict is what a pass does with a dead letter.
type Verdict int

// The verdicts.
const (
	Keep   Verdict = iota // it stays, in its place
	Remove                // it goes
	Stop                  // it stays, and so do all after it
)

// DeadLetter is a dead letter in a list.
type DeadLetter struct {
	TaskID      string     `json:"task_id" doc:"Id of the task; empty when the message could not be read."`
	Name        *string    `json:"name" doc:"Kind of the task."`
	Reason      string     `json:"reason" doc:"Why it is here." example:"retries-exhausted"`
	Error       *string    `json:"error" doc:"What the last attempt said, as type and text."`
	Group       string     `json:"group" doc:"The same for all dead letters of a kind of task, a reason and an error that differ in numbers and quoted texts only."`
	Attempts    int        `json:"attempts" doc:"How often it was tried."`
	Run         int        `json:"run" doc:"How often it was sent again before."`
	Worker      *string    `json:"worker" doc:"Who had it last."`
	DateCreated *time.Time `json:"date_created" doc:"When the task was submitted."`
	DateDead    *time.Time `json:"date_dead" doc:"When it became a dead letter."`
}

// deadLetterWhole is a dead letter with its input.
type deadLetterWhole struct {
	DeadLetter
	Args   json.RawMessage `json:"args" doc:"Positional arguments; null when the message cannot be read."`
	Kwargs json.RawMessage `json:"kwargs" doc:"The input; null when the message cannot be read."`
	Stack  *string         `json:"stack" doc:"Where it happened."`
}

type deadList struct {
	DeadLetters []DeadLetter `json:"dead_letters" nullable:"false" doc:"In the order in which they came, the oldest first."`
	NextCursor  *string      `json:"next_cursor" doc:"Pass it as cursor to get the next page; null at the end."`
}

// deadGroup is what many dead letters have in common.
type deadGroup struct {
	Group   string     `json:"group" doc:"Pass it as group to list, send again or discard these."`
	Name    *string    `json:"name" doc:"Kind of the task."`
	Reason  string     `json:"reason"`
	Error   *string    `json:"error" doc:"The error of the newest."`
	Count   int        `json:"count"`
	First   *time.Time `json:"first" doc:"When the oldest of them became a dead letter."`
	Last    *time.Time `json:"last" doc:"When the newest did."`
	Example string     `json:"example" doc:"Id of the newest."`
}

type deadGroups struct {
	Groups []deadGroup `json:"groups" nullable:"false" doc:"The largest first."`
}

// deadQuery says which dead letters are meant.
type deadQuery struct {
	name, reason, group string
	since, until        time.Time
	limit, rate         int
	cursor              string
	all, dryRun         bool
}

// selective reports whether anything restricts it.
func (q *deadQuery) selective() bool {
	return q.name != "" || q.reason != "" || q.group != "" || !q.since.IsZero() || !q.until.IsZero()
}

func (q *deadQuery) match(l *DeadLetter) bool {
	dead := time.Time{}
	if l.DateDead != nil {
		dead = *l.DateDead
	}
	return (q.name == "" || l.Name != nil && *l.Name == q.name) &&
		(q.reason == "" || l.Reason == q.reason) &&
		(q.group == "" || l.Group == q.group) &&
		(q.since.IsZero() || !dead.Before(q.since)) &&
		(q.until.IsZero() || dead.Before(q.until))
}

func deadFilterParams() []param[deadQuery] {
	type query = deadQuery
	plain := &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(255)}
	instant := &huma.Schema{Type: huma.TypeString, Format: "date-time"}
	var reasons []any
	for _, r := range messages.Reasons() {
		reasons = append(reasons, string(r))
	}
	return []param[query]{
		{name: "name", schema: plain, doc: "Only tasks of this kind.", set: func(q *query, s string) string { q.name = s; return nameRule(s, 255) }},
		{name: "reason", schema: &huma.Schema{Type: huma.TypeString, Enum: reasons}, doc: "Only those that are here for this reason.", set: setReason},
		{name: "group", schema: plain, doc: "Only those of this group.", set: func(q *query, s string) string { q.group = s; return nameRule(s, 255) }},
		{name: "since", schema: instant, doc: "Only those that came at or after this time.", set: func(q *query, s string) string { return setInstant(&q.since, s) }},
		{name: "until", schema: instant, doc: "Only those that came before this time.", set: func(q *query, s string) string { return setInstant(&q.until, s) }},
	}
}

func setReason(q *deadQuery, s string) string {
	q.reason = s
	if slices.Contains(messages.Reasons(), messages.Reason(s)) {
		return ""
	}
	var known []string
	for _, r := range messages.Reasons() {
		known = append(known, string(r))
	}
	return "must be one of " + strings.Join(known, ", ")
}

func deadListParams() []param[deadQuery] {
	type query = deadQuery
	return append(deadFilterParams(),
		param[query]{
			name: "limit", doc: "At most this many.",
			schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxLimit)), Default: defaultLimit},
			set:    func(q *query, s string) string { return setInt(&q.limit, s, 1, maxLimit) },
		},
		param[query]{
			name: "cursor", schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(1024)}, doc: "next_cursor of the page before.",
			set: func(q *query, s string) string {
				q.cursor = s
				if _, _, ok := parseDeadCursor(s); !ok {
					return "is not one of ours"
				}
				return ""
			},
		})
}

// A cursor names the last letter of a page, and its place for the case that it
// is gone by then.
func deadCursor(place int, id string) string { return strconv.Itoa(place) + "." + id }

func parseDeadCursor(s string) (place int, id string, ok bool) {
	number, id, ok := strings.Cut(s, ".")
	place, err := strconv.Atoi(number)
	return place, id, ok && err == nil && place >= 0
}

// checkQueue refuses what can be no queue of ours.
func checkQueue(queue string) error {
	if rule := ruleOf(messages.ValidQueue(queue)); rule != "" {
		p := noResource()
		p.Detail = "the name of the queue " + rule
		return p
	}
	return nil
}

// listDead is GET /v1/queues/{queue}/dead.
func (a *API) listDead(ctx context.Context, c *call) (*reply, error) {
	q := deadQuery{limit: defaultLimit}
	if errs := parseQuery(deadListParams(), c.request.URL.RawQuery, &q); len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	p := newDeadPage(&q)
	if err := a.pass(ctx, c.queue, p.look); err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, p.list())
}

// deadPage finds a page: what comes after the letter that the cursor names, or,
// when that is gone, what comes after its place.
type deadPage struct {
	query *deadQuery
	place int // of the letter that is looked at
	// from and after are the place and the id of the cursor, found says that
	// the pass is beyond it.
	from           int
	after          string
	found          bool
	page, fallback []placed
}

type placed struct {
	DeadLetter
	place int
}

func newDeadPage(q *deadQuery) *deadPage {
	p := &deadPage{query: q, found: q.cursor == ""}
	if !p.found {
		p.from, p.after, _ = parseDeadCursor(q.cursor)
	}
	return p
}

func (p *deadPage) look(_ context.Context, m *messages.Message) (Verdict, error) {
	l := newDeadLetter(m)
	place := p.place
	p.place++
	if !p.found && l.TaskID == p.after && place <= p.from {
		p.found = true
		return Keep, nil
	}
	if !p.query.match(&l) {
		return Keep, nil
	}
	if p.found {
		p.page = append(p.page, placed{l, place})
		if len(p.page) > p.query.limit {
			return Stop, nil
		}
		return Keep, nil
	}
	if place > p.from && len(p.fallback) <= p.query.limit {
		p.fallback = append(p.fallback, placed{l, place})
	}
	return Keep, nil
}

func (p *deadPage) list() deadList {
	page := p.page
	if !p.found {
		page = p.fallback
	}
	out := deadList{DeadLetters: []DeadLetter{}}
	if len(page) > p.query.limit {
		page = page[:p.query.limit]
		last := page[len(page)-1]
		out.NextCursor = text(deadCursor(last.place, last.TaskID))
	}
	for _, l := range page {
		out.DeadLetters = append(out.DeadLetters, l.DeadLetter)
	}
	return out
}

// groupDead is GET /v1/queues/{queue}/dead-groups.
func (a *API) groupDead(ctx context.Context, c *call) (*reply, error) {
	var q deadQuery
	if errs := parseQuery(deadFilterParams(), c.request.URL.RawQuery, &q); len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	groups := map[string]*deadGroup{}
	err := a.pass(ctx, c.queue, func(_ context.Context, m *messages.Message) (Verdict, error) {
		l := newDeadLetter(m)
		if !q.match(&l) {
			return Keep, nil
		}
		g := groups[l.Group]
		if g == nil {
			g = &deadGroup{Group: l.Group, Name: l.Name, Reason: l.Reason, First: l.DateDead}
			groups[l.Group] = g
		}
		g.Count++
		g.Error, g.Last, g.Example = l.Error, l.DateDead, l.TaskID
		return Keep, nil
	})
	if err != nil {
		return nil, err
	}
	out := deadGroups{Groups: make([]deadGroup, 0, len(groups))}
	for _, name := range sortedKeys(groups) {
		out.Groups = append(out.Groups, *groups[name])
	}
	slices.SortStableFunc(out.Groups, func(a, b deadGroup) int { return b.Count - a.Count })
	return jsonReply(http.StatusOK, out)
}

// getDead is GET /v1/queues/{queue}/dead/{id}.
func (a *API) getDead(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	var found *deadLetterWhole
	err := a.pass(ctx, c.queue, func(_ context.Context, m *messages.Message) (Verdict, error) {
		l := newDeadLetter(m)
		if l.TaskID != c.name {
			return Keep, nil
		}
		found = &deadLetterWhole{DeadLetter: l}
		if d, ok := messages.DecodeDeadLetter(m); ok {
			found.Stack = text(d.Stack)
		}
		if t, err := messages.Decode(m); err == nil {
			found.Args, found.Kwargs = t.Args, t.Kwargs
		}
		return Stop, nil
	})
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, noDeadLetter(c)
	}
	return jsonReply(http.StatusOK, found)
}

func noDeadLetter(c *call) *problem {
	p := newProblem(slugNoDeadLetter, "no dead letter of queue "+strconv.Quote(c.queue)+" is of this task")
	p.TaskID = c.name
	return p
}

// pass passes over the dead letters of a queue, within the time that a client
// waits for.
func (a *API) pass(ctx context.Context, queue string, look func(context.Context, *messages.Message) (Verdict, error)) error {
	if err := checkQueue(queue); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.opts.PassTimeout, errPassTooLong)
	defer cancel()
	return a.opts.DeadLetters.Pass(ctx, queue, look)
}

// newDeadLetter shows a dead letter, whatever can be read of it.
func newDeadLetter(m *messages.Message) DeadLetter {
	d, _ := messages.DecodeDeadLetter(m)
	l := DeadLetter{
		TaskID: headerText(m, "id"), Name: text(headerText(m, "task")), Reason: string(d.Reason), Error: text(d.Error),
		Attempts: d.Attempts, Run: d.Run, Worker: text(d.Worker), DateCreated: instant(d.FirstTime), DateDead: instant(d.LastTime),
	}
	if l.TaskID == "" {
		l.TaskID = m.MessageID
	}
	l.Group = groupOf(headerText(m, "task"), l.Reason, d.Error)
	return l
}

func headerText(m *messages.Message, name string) string {
	s, _ := m.Headers[name].(string)
	return s
}

// variable is what differs between errors that are the same.
var variable = regexp.MustCompile(`"[^"]*"|'[^']*'|0[xX][0-9a-fA-F]+|[0-9a-fA-F]{8,}|[0-9]+`)

// groupOf names what dead letters have in common.
func groupOf(name, reason, err string) string {
	sum := sha256.Sum256([]byte(name + "\x00" + reason + "\x00" + variable.ReplaceAllString(err, "…")))
	return hex.EncodeToString(sum[:6])
}
