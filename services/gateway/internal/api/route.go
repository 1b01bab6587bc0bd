package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
)

// call is a request as a handler sees it. huma routes and documents, while
// parameters and bodies are read by this package, because a payload must pass
// through as the very bytes that came, and because every fault must be told in
// one answer of one form.
type call struct {
	request *http.Request
	writer  http.ResponseWriter
	// name is the variable part of the path, where it has one. It is never empty
	// there, and absent tells that it is or that there is more behind it: Echo
	// takes all the rest for the last part.
	name   string
	absent bool
	// queue is the name of a queue in the path.
	queue string
	// body is set when it was read before the handler reads it, and held when
	// the submission has an Idempotency-Key. timeout is what a submission has
	// for its publish.
	body    []byte
	held    *held
	timeout time.Duration
}

func newCall(ctx huma.Context) *call {
	e := humaecho.Unwrap(ctx)
	c := &call{request: e.Request(), writer: e.Response()}
	op := ctx.Operation()
	exchangeOf(c.request.Context()).route = op.Path
	for key, into := range map[string]*string{"name": &c.name, "id": &c.name, "worker": &c.name, "queue": &c.queue} {
		if strings.Contains(op.Path, "{"+key+"}") {
			raw := ctx.Param(key)
			c.absent = c.absent || raw == "" || strings.Contains(raw, "/")
			*into = pathValue(c.request, raw)
		}
	}
	return c
}

// pathValue undoes the escaping of a part of the path, which Echo leaves as it
// is when there is something like %2F in it.
func pathValue(r *http.Request, raw string) string {
	if r.URL.RawPath == "" {
		return raw
	}
	if value, err := url.PathUnescape(raw); err == nil {
		return value
	}
	return raw
}

// reply is a successful answer.
type reply struct {
	status int
	header map[string]string
	body   []byte
}

type handler func(ctx context.Context, c *call) (*reply, error)

// route registers a handler and documents it.
func route(api huma.API, op huma.Operation, body *huma.RequestBody, h handler) {
	routeStream(api, op, body, func(c *call) {
		if c.absent {
			noResource().write(c.writer, c.request)
			return
		}
		r, err := h(c.request.Context(), c)
		if err != nil {
			problemOf(err).write(c.writer, c.request)
			return
		}
		r.write(c.writer)
	})
}

// routeStream registers a handler that writes its answer itself.
func routeStream(api huma.API, op huma.Operation, body *huma.RequestBody, h func(c *call)) {
	op.RequestBody = body
	secured(&op)
	api.OpenAPI().AddOperation(&op)
	api.Adapter().Handle(&op, func(ctx huma.Context) {
		c := newCall(ctx)
		if steers(&op) {
			Steering(c.request, op.OperationID, c.request.URL.EscapedPath())
			exchangeOf(c.request.Context()).which = c.request.URL.RawQuery
		}
		if err := permit(&op, c); err != nil {
			problemOf(err).write(c.writer, c.request)
			return
		}
		h(c)
	})
}

func (r *reply) write(w http.ResponseWriter) {
	for name, value := range r.header {
		w.Header().Set(name, value)
	}
	if len(r.body) > 0 {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body) // a client that is gone hears nothing more
}

// jsonReply is a reply with v as its body.
func jsonReply(status int, v any) (*reply, error) {
	body, err := encodeJSON(v)
	if err != nil {
		return nil, err
	}
	return &reply{status: status, body: body, header: map[string]string{}}, nil
}

func notFound(w http.ResponseWriter, r *http.Request) {
	noResource().write(w, r)
}

func noResource() *problem { return newProblem(slugNotFound, "see /openapi.json for what there is") }

// echoError answers what the router refuses.
func echoError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	p := problemOf(err)
	switch he, ok := errors.AsType[*echo.HTTPError](err); {
	case !ok:
	case he.Code == http.StatusNotFound:
		p = noResource()
	case he.Code == http.StatusMethodNotAllowed:
		p = newProblem(slugMethod, "the Allow header names the methods of this resource")
		p.allow = c.Response().Header().Get("Allow")
	}
	p.write(c.Response(), c.Request())
}
