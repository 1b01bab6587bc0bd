// Package tracing is what the spans of the gateway and of workers have in
// common: how a trace travels with a task, and how a span names one. It knows
// the API of OpenTelemetry only; whoever wants spans brings a provider.
package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lovage-mq/lovage/internal/version"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// Names of W3C Trace Context.
const (
	parentHeader = "traceparent"
	stateHeader  = "tracestate"
)

// Tracer returns the tracer of all our spans.
func Tracer(p trace.TracerProvider) trace.Tracer {
	return p.Tracer("github.com/lovage-mq/lovage",
		trace.WithInstrumentationVersion(version.String()), trace.WithSchemaURL(semconv.SchemaURL))
}

// Continue returns a context whose spans belong to the trace of the headers. It
// is ctx itself when they are empty or malformed.
func Continue(ctx context.Context, parent, state string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{parentHeader: parent, stateHeader: state})
}

// Headers returns traceparent and tracestate of the span of ctx, for whoever is
// to continue there. They are empty when there is none.
func Headers(ctx context.Context) (parent, state string) {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[parentHeader], carrier[stateHeader]
}

// Attributes describe a task in the terms of the conventions for messages, and
// what these have no word for in ours.
func Attributes(t *messages.Task, more ...attribute.KeyValue) trace.SpanStartEventOption {
	return trace.WithAttributes(append(more,
		semconv.MessagingSystemRabbitMQ,
		semconv.MessagingDestinationName(t.Queue),
		semconv.MessagingMessageID(t.ID),
		attribute.String("lovage.task.name", t.Name),
		attribute.Int("lovage.task.run", t.Run),
	)...)
}
