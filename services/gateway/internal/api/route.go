package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
)

// call is a request as a handler sees it. It is the input of every operation:
// huma routes and documents, while parameters and bodies are read by this
// package, because a payload must pass through as the very bytes that came, and
// because every fault must be told in one answer of one form.
type call struct {
	request *http.Request
	writer  http.ResponseWriter
	// name is the last part of the path, where it has one. It is never empty
	// there, and absent tells that it is or that there is more behind it: Echo
	// takes all the rest for the last part.
	name   string
	absent bool
	// body is set when it was read before the handler reads it, and held when
	// the submission has an Idempotency-Key.
	body []byte
	held *held
}

// Resolve takes hold of the request. It is called by huma.
func (c *call) Resolve(ctx huma.Context) []error {
	e := humaecho.Unwrap(ctx)
	c.request, c.writer = e.Request(), e.Response()
	op := ctx.Operation()
	exchangeOf(c.request.Context()).route = op.Path
	for _, key := range []string{"name", "id"} {
		if strings.Contains(op.Path, "{"+key+"}") {
			raw := ctx.Param(key)
			c.absent = raw == "" || strings.Contains(raw, "/")
			c.name = pathValue(c.request, raw)
		}
	}
	return nil
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

// output is what huma writes.
type output struct {
	Status      int
	ContentType string `header:"Content-Type" hidden:"true"`
	Body        []byte
}

type handler func(ctx context.Context, c *call) (*reply, error)

// route registers a handler. The request body is added to the document only
// afterwards: huma would read and check it otherwise.
func route(api huma.API, op huma.Operation, body *huma.RequestBody, h handler) {
	method, path := op.Method, op.Path
	huma.Register(api, op, func(ctx context.Context, c *call) (*output, error) {
		if c.absent {
			return failed(ctx, c, noResource()), nil
		}
		r, err := h(ctx, c)
		if err != nil {
			return failed(ctx, c, problemOf(err)), nil
		}
		return succeeded(c, r), nil
	})
	if item := api.OpenAPI().Paths[path]; method == http.MethodPost && item != nil {
		item.Post.RequestBody = body
	}
}

// streamed is written by the handler itself.
type streamed struct {
	Body func(huma.Context)
}

// routeStream registers a handler that writes its answer itself.
func routeStream(api huma.API, op huma.Operation, body *huma.RequestBody, h func(c *call)) {
	path := op.Path
	huma.Register(api, op, func(_ context.Context, c *call) (*streamed, error) {
		return &streamed{Body: func(huma.Context) { h(c) }}, nil
	})
	api.OpenAPI().Paths[path].Post.RequestBody = body
}

func succeeded(c *call, r *reply) *output {
	for name, value := range r.header {
		c.writer.Header().Set(name, value)
	}
	out := &output{Status: r.status, Body: r.body}
	if len(r.body) > 0 {
		out.ContentType = "application/json"
	}
	return out
}

func failed(ctx context.Context, c *call, p *problem) *output {
	exchangeOf(ctx).fail(p)
	p.header(c.writer.Header())
	return &output{Status: p.Status, ContentType: problemType, Body: p.body()}
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
