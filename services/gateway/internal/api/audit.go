package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// Audit keeps what was steered. [access.Audit] does.
type Audit interface {
	// Record never blocks.
	Record(e access.Entry)
	// List returns entries, the newest first, before the one with an id or all.
	// Its errors are [access.ErrCursor] and [access.ErrUnavailable].
	List(ctx context.Context, before string, limit int) ([]access.Entry, error)
}

// Steering says that a request is a steering act, and on what, so that it is
// audited whatever it comes to. The API says it by itself of its own; it is for
// pages behind [API.Guard]. Who it is counts as of this call.
func Steering(r *http.Request, action, target string) {
	x := exchangeOf(r.Context())
	x.action, x.target = action, target
	if g := access.From(r.Context()); g != nil {
		x.grant = g
	}
}

// steers reports whether an operation is a steering act: it changes something
// and is no submission.
func steers(op *huma.Operation) bool {
	switch op.OperationID {
	case "submit-task", "submit-envelope", "submit-batch":
		return false
	}
	return op.Method != http.MethodGet
}

// audit writes the line of a steering act into the log and keeps it.
func (a *API) audit(r *http.Request, x *exchange, status int) {
	e := access.Entry{
		At: time.Now().UTC(), Who: "unknown", Action: x.action, Target: x.target, Outcome: "ok", Status: status,
		RequestID: x.requestID, Address: r.RemoteAddr,
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		e.Address = host
	}
	if x.grant != nil {
		e.Who, e.KeyID = x.grant.Who, x.grant.KeyID
	}
	if x.problem != nil {
		e.Outcome = string(x.problem.kind)
	}
	a.opts.Log.Info("audit", zap.String("request_id", e.RequestID), zap.String("who", e.Who), zap.String("key_id", e.KeyID),
		zap.String("action", e.Action), zap.String("target", e.Target), zap.String("outcome", e.Outcome), zap.Int("status", e.Status))
	if a.opts.Audit == nil {
		return
	}
	if x.problem == nil && x.which != "" { // else there may be anything in it
		e.Target += "?" + x.which
	}
	const longest = 2000
	e.Target = e.Target[:min(len(e.Target), longest)]
	a.opts.Audit.Record(e)
}

// auditEntry is one steering act.
type auditEntry struct {
	At        time.Time `json:"at"`
	Who       string    `json:"who" doc:"Name of the API key; anonymous where nobody has to show one."`
	KeyID     string    `json:"key_id" doc:"Which key of that name it was."`
	Action    string    `json:"action" doc:"What was asked for: the operationId of this document, login or logout."`
	Target    string    `json:"target" doc:"On what: the path of the request and its query."`
	Outcome   string    `json:"outcome" doc:"ok, or the slug of the problem it was answered with."`
	Status    int       `json:"status" doc:"The HTTP status it was answered with."`
	RequestID string    `json:"request_id" doc:"X-Request-Id, as it is in the log."`
	Address   string    `json:"address" doc:"Where the request came from: the last proxy, if there is one."`
}

type auditList struct {
	Entries    []auditEntry `json:"entries" nullable:"false" doc:"The newest first."`
	NextCursor *string      `json:"next_cursor" doc:"Pass it as cursor to get the next page; null at the end."`
}

// auditQuery is what GET /v1/audit is asked for.
type auditQuery struct {
	limit  int
	cursor string
}

func auditParams() []param[auditQuery] {
	return []param[auditQuery]{
		{
			name: "limit", doc: "At most this many entries.",
			schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxLimit)), Default: defaultLimit},
			set:    func(q *auditQuery, s string) string { return setInt(&q.limit, s, 1, maxLimit) },
		},
		{
			name: "cursor", doc: "next_cursor of the page before.", schema: &huma.Schema{Type: huma.TypeString, MinLength: new(1), MaxLength: new(50)},
			set: func(q *auditQuery, s string) string { q.cursor = s; return nameRule(s, 50) },
		},
	}
}

// listAudit is GET /v1/audit.
func (a *API) listAudit(ctx context.Context, c *call) (*reply, error) {
	q := auditQuery{limit: defaultLimit}
	if errs := parseQuery(auditParams(), c.request.URL.RawQuery, &q); len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	if a.opts.Audit == nil {
		return nil, messages.ErrStoreUnavailable
	}
	entries, err := stored(ctx, a, func(ctx context.Context) ([]access.Entry, error) { return a.opts.Audit.List(ctx, q.cursor, q.limit) })
	switch {
	case errors.Is(err, access.ErrCursor):
		return nil, invalid(slugParameters, []fieldError{atParameter("cursor", "must be a next_cursor")})
	case errors.Is(err, access.ErrUnavailable):
		return nil, errors.Join(messages.ErrStoreUnavailable, err)
	case err != nil:
		return nil, err
	}
	out := auditList{Entries: make([]auditEntry, 0, len(entries))}
	for _, e := range entries {
		out.Entries = append(out.Entries, auditEntry{e.At, e.Who, e.KeyID, e.Action, e.Target, e.Outcome, e.Status, e.RequestID, e.Address})
	}
	if len(entries) == q.limit {
		out.NextCursor = text(entries[len(entries)-1].ID)
	}
	return jsonReply(http.StatusOK, out)
}
