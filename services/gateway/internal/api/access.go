package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// Gate says who sends a request and what they may do.
type Gate interface {
	// Identify waits for nothing but, for a browser's session, the store. Its
	// errors are the sentinels of package access and [*LockedError].
	Identify(r *http.Request) (*access.Grant, error)
}

// ErrNoScope is for a key that is right, and not for what it is shown for,
// ErrRestricted for one that is for some tasks or queues where all are shown.
var (
	ErrNoScope    = errors.New("the key lacks the scope")
	ErrRestricted = errors.New("the key is for some tasks or queues only")
)

// ErrNoCredentials is that of a [Gate] for a request that shows nothing.
var ErrNoCredentials = errors.New("no credentials")

// LockedError is that of a [Gate] for somebody who has guessed too often.
type LockedError struct{ RetryAfter time.Duration }

func (e *LockedError) Error() string { return "too many wrong credentials" }

// LoginPath is where a browser is sent that shows no credentials. It, LogoutPath
// and the probes are open to everybody.
const (
	LoginPath  = "/login"
	LogoutPath = "/logout"
)

// ConsolePath is the first page of the console; the others are below it.
const ConsolePath = "/console"

// InConsole reports whether a path is that of a page of the console, or of what
// such a page loads.
func InConsole(path string) bool {
	return path == ConsolePath || strings.HasPrefix(path, ConsolePath+"/")
}

// identify finds out who sends a request and what they may do, and refuses
// strangers. What exactly may be done each route says, see permit.
func (a *API) identify(next http.Handler) http.Handler {
	anybody := access.Everything()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if open(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		grant, err := anybody, error(nil)
		if a.opts.Gate != nil {
			grant, err = a.opts.Gate.Identify(r)
		}
		if err != nil {
			refuseStranger(w, r, err)
			return
		}
		exchangeOf(r.Context()).grant = grant
		if a.opts.Rates != nil && counts(r.URL.Path) && !withinRate(w, r, a.opts.Rates.Take(r.Context(), grant)) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

func open(path string) bool {
	return path == routeLive || path == routeReady || path == LoginPath || path == LogoutPath
}

// counts reports whether a request takes something from the rate of who sends
// it. A page of the console asks the API in the name of its visitor, and that
// counts.
func counts(path string) bool { return !InConsole(path) }

// Refused notes why a request is refused that somebody else's page answers, and
// returns with which status, and how long it is to be waited.
func Refused(r *http.Request, err error) (status int, after time.Duration) {
	p := strangerProblem(err)
	exchangeOf(r.Context()).fail(p)
	return p.Status, p.after
}

// refuseStranger answers a request without credentials that count. A person who
// wants to see a page is shown where to log in.
func refuseStranger(w http.ResponseWriter, r *http.Request, err error) {
	p := strangerProblem(err)
	if p.Status == http.StatusUnauthorized && wantsPage(r) {
		exchangeOf(r.Context()).fail(p)
		w.Header().Set("Location", LoginPath+"?next="+url.QueryEscape(pageOf(r)))
		w.WriteHeader(http.StatusSeeOther)
		return
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="lovage"`)
	}
	p.write(w, r)
}

func strangerProblem(err error) *problem {
	if locked, ok := errors.AsType[*LockedError](err); ok {
		p := newProblem(slugLocked, "too many wrong API keys came from there; try again after Retry-After")
		p.after = max(time.Second, locked.RetryAfter+time.Second-1)
		return p
	}
	for _, known := range []struct {
		err    error
		slug   slug
		detail string
	}{
		{ErrNoCredentials, slugUnauthorized, "send an API key as Authorization: Bearer <key>; it is never taken from the query"},
		{access.ErrUnknown, slugUnauthorized, "there is no such API key"},
		{access.ErrExpired, slugUnauthorized, "the API key has expired; get another one (lovage keys rotate)"},
		{access.ErrRevoked, slugUnauthorized, "the API key was revoked"},
		{ErrNoScope, slugForbidden, "the API key lacks the scope read"},
		{ErrRestricted, slugForbidden, "the API key is for some tasks or queues only, and this is about all of them"},
		{access.ErrNotLoaded, slugNoAccess, "which API keys there are is not known before the store of keys has answered once"},
	} {
		if errors.Is(err, known.err) {
			return newProblem(known.slug, known.detail)
		}
	}
	p := newProblem(slugNoAccess, "whose session this is cannot be looked up")
	p.cause = err
	return p
}

// wantsPage reports whether a browser asks for a page to show, or sends the form
// of one.
func wantsPage(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodPost) && r.Header.Get("Authorization") == "" &&
		!strings.HasPrefix(r.URL.Path, "/v1/") && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// pageOf is the page that a browser asks for, or that it shows when it sends a
// form; empty if it does not say which that is.
func pageOf(r *http.Request) string {
	if r.Method == http.MethodGet {
		return r.URL.RequestURI()
	}
	if from, err := url.Parse(r.Referer()); err == nil && from.Host == r.Host {
		return from.RequestURI()
	}
	return ""
}

// scopeOf is the scope that an operation needs: to see is read, to change is
// admin, and what is neither is named here.
func scopeOf(op *huma.Operation) access.Scope {
	switch op.OperationID {
	case "livez", "readyz":
		return ""
	case "submit-task", "submit-envelope", "submit-batch", "cancel-task", "retry-task":
		return access.Submit
	case "list-audit":
		return access.Admin
	}
	if op.Method == http.MethodGet {
		return access.Read
	}
	return access.Admin
}

// heedsPatterns reports whether the handler of an operation looks at the patterns
// of a key by itself, because they are about each single task. All others are
// refused to keys that have patterns, unless they are about one queue.
func heedsPatterns(op *huma.Operation) bool {
	switch op.OperationID {
	case "submit-task", "submit-envelope", "submit-batch", "cancel-task", "retry-task", "get-catalog",
		"get-task", "get-task-log", "get-callback", "watch-task", "list-tasks", "watch-tasks":
		return true
	}
	return false
}

// permit refuses what a credential may not do. The error is a [*problem].
func permit(op *huma.Operation, c *call) error {
	need := scopeOf(op)
	if need == "" {
		return nil
	}
	g := access.From(c.request.Context())
	switch {
	case !g.Has(need):
		return forbidden(fmt.Sprintf("this takes the scope %s, which the credential does not have", need))
	case !g.Restricted() || heedsPatterns(op) && (c.name == "" || op.Path != routeNamed || g.Task(c.name)):
		return nil
	case op.Path == routeNamed:
		return forbidden(fmt.Sprintf("the credential is not for tasks named %q", c.name))
	case len(g.Tasks) > 0:
		return forbidden("the credential is for some tasks only, and this is about all of a queue or more")
	case op.Path == "/v1/queues" || c.queue != "" && g.Queue(c.queue):
		return nil
	case c.queue != "":
		return forbidden(fmt.Sprintf("the credential is not for the queue %q", c.queue))
	}
	return forbidden("the credential is for some queues only, and this is about all of them")
}

// Guard puts in front of somebody else's pages all that is in front of the API:
// the names of the host, the origin, who it is, the headers and the log. They are
// for those who have a scope, for all tasks and queues, or with an empty one for
// everybody; who it is, [access.From] tells. The route is what the pages are called in the log and the metrics.
func (a *API) Guard(route string, scope access.Scope, pages http.Handler) http.Handler {
	return a.middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(r.Context()).route = route
		switch g := access.From(r.Context()); {
		case scope == "":
			pages.ServeHTTP(w, r)
		case !g.Has(scope):
			problemOf(forbidden(fmt.Sprintf("this takes the scope %s, which the credential does not have", scope))).write(w, r)
		case g.Restricted():
			problemOf(forbidden("the credential is for some tasks or queues only, and this is about all of them")).write(w, r)
		default:
			pages.ServeHTTP(w, r)
		}
	}))
}

func forbidden(detail string) error { return newProblem(slugForbidden, detail) }

// maySubmit refuses a task that a credential is not for.
func maySubmit(ctx context.Context, t *messages.Task) error {
	g := access.From(ctx)
	switch {
	case !g.Task(t.Name):
		return forbidden(fmt.Sprintf("the credential is not for tasks named %q", t.Name))
	case !g.Queue(t.Queue):
		return forbidden(fmt.Sprintf("the credential is not for the queue %q", t.Queue))
	}
	return nil
}

// covered reports whether the task of a record is one that a credential is for.
func covered(ctx context.Context, r *messages.Result) bool {
	g := access.From(ctx)
	return g.Task(r.Name) && g.Queue(r.Queue)
}

// shown fails, as for a task that is not there, where a credential is for some
// tasks only and not for this one.
func (a *API) shown(ctx context.Context, id string) error {
	if !access.From(ctx).Restricted() {
		return nil
	}
	_, err := a.getSoon(ctx, id)
	return err
}

// onlyCovered drops the tasks that a credential is not for.
func onlyCovered(ctx context.Context, list []*messages.Result) []*messages.Result {
	if g := access.From(ctx); g != nil && !g.Restricted() {
		return list
	}
	return slices.DeleteFunc(list, func(r *messages.Result) bool { return !covered(ctx, r) })
}

// securityScheme is how clients show who they are.
const securityScheme = "apiKey"

// secured documents what an operation takes.
func secured(op *huma.Operation) {
	if need := scopeOf(op); need != "" {
		op.Security = []map[string][]string{{securityScheme: {string(need)}}}
	}
}
