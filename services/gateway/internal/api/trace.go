package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lovage-mq/lovage/internal/tracing"
)

// beginSpan begins the span of a request, as part of the trace that the client
// has named. Probes have none, and without a tracer nobody has.
func (a *API) beginSpan(ctx context.Context, r *http.Request, x *exchange) context.Context {
	if a.tracer == nil || r.URL.Path == routeLive || r.URL.Path == routeReady || r.URL.Path == RouteMetrics {
		return ctx
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	name, method := r.Method, semconv.HTTPRequestMethodKey.String(r.Method)
	if !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete}, name) {
		name, method = "HTTP", semconv.HTTPRequestMethodOther
	}
	parent, state := traceContext(r.Header)
	ctx, x.span = a.tracer.Start(tracing.Continue(ctx, parent, state), name, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(method, semconv.URLPath(r.URL.Path), semconv.URLScheme(scheme)))
	return ctx
}

// endSpan ends the span of a request. Only what is the server's fault makes it
// one that has failed.
func (x *exchange) endSpan(method string, status int) {
	if x.span == nil {
		return
	}
	if x.route != "" {
		x.span.SetName(method + " " + x.route)
		x.span.SetAttributes(semconv.HTTPRoute(x.route))
	}
	if status != 0 {
		x.span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	kind := strconv.Itoa(status)
	if x.problem != nil {
		kind = string(x.problem.kind)
		x.span.SetAttributes(attribute.String("lovage.problem", kind))
	}
	if status == 0 || status >= http.StatusInternalServerError {
		x.span.SetAttributes(semconv.ErrorTypeKey.String(kind))
		x.span.SetStatus(codes.Error, "")
	}
	x.span.End()
}

// sending begins the span of a submission, and has its worker continue there.
func (a *API) sending(ctx context.Context, s *submission) {
	if a.tracer == nil {
		return
	}
	ctx, s.span = a.tracer.Start(ctx, "send "+s.task.Name, trace.WithSpanKind(trace.SpanKindProducer),
		tracing.Attributes(s.task, semconv.MessagingOperationName("send"), semconv.MessagingOperationTypeSend))
	s.task.TraceParent, s.task.TraceState = tracing.Headers(ctx)
}

// sent ends the span of a submission and returns what became of that.
func (s submission) sent(err error) error {
	if s.span == nil {
		return err
	}
	if p, ok := errors.AsType[*problem](err); ok {
		s.span.SetAttributes(semconv.ErrorTypeKey.String(string(p.kind)))
		s.span.SetStatus(codes.Error, p.Detail)
	}
	s.span.End()
	return err
}

// trace returns the trace context for what a request sends: its own span, or
// else what the client has named.
func (c *call) trace(ctx context.Context) (parent, state string) {
	if exchangeOf(ctx).span != nil {
		return tracing.Headers(ctx)
	}
	return traceContext(c.request.Header)
}

// traceContext returns the W3C trace context of a request. What is malformed
// is left out: the trace begins anew then, as the recommendation asks.
func traceContext(h http.Header) (parent, state string) {
	parent = h.Get("Traceparent")
	if !validTraceParent(parent) {
		return "", ""
	}
	const longest = 512
	state = strings.Join(h.Values("Tracestate"), ",")
	if len(state) > longest || strings.ContainsFunc(state, func(r rune) bool { return r < ' ' || r > '~' }) {
		state = ""
	}
	return parent, state
}

// validTraceParent checks version-trace-parent-flags: 2, 32, 16 and 2 lower-case
// hex digits, of which trace and parent are not all zero.
func validTraceParent(s string) bool {
	if len(s) != 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	if strings.Trim(strings.ReplaceAll(s, "-", ""), "0123456789abcdef") != "" || strings.Count(s, "-") != 3 {
		return false
	}
	return s[:2] != "ff" && strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}
